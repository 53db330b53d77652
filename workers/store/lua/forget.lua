-- KEYS run, runs, active, index, leases, fences, events, flags; ARGV id, prefix of cluster locks
-- This uses keys outside of KEYS: servers in cluster mode are not supported, neither as a broker.
local known = redis.call('HMGET', KEYS[1], 'key', 'cluster')
if known[1] and redis.call('GET', known[1]) == ARGV[1] then redis.call('DEL', known[1]) end
if known[2] and holder_of(redis.pcall('GET', ARGV[2] .. known[2])) == ARGV[1] then
  redis.call('DEL', ARGV[2] .. known[2])
end
for _, key in ipairs(redis.call('SMEMBERS', KEYS[4])) do redis.call('UNLINK', key) end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
return redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])

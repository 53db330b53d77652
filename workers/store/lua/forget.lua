-- KEYS run, runs, active, index, leases, events, the nodes that wait; ARGV id, prefix of locks
-- This uses keys outside of KEYS: servers in cluster mode are not supported, neither as a broker.
local key = redis.call('HGET', KEYS[1], 'key')
if key and redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
unlock(KEYS[1], ARGV[1], ARGV[2])
for _, key in ipairs(redis.call('SMEMBERS', KEYS[4])) do redis.call('UNLINK', key) end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
return redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[5], KEYS[6], KEYS[7])

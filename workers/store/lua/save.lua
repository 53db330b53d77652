-- KEYS run, active, events, lock of its cluster
-- ARGV id, version read, token of this write, record, active ('1' or '0'), cap, then digest and text of each event to note
-- Returns 1 saved, 0 another writer was faster, -1 no such run.
local present = redis.call('HMGET', KEYS[1], 'version', 'token')
if not present[1] then return -1 end
-- The same write again: its first reply was lost.
if present[2] == ARGV[3] then return 1 end
if present[1] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'version', whole(present[1] + 1), 'token', ARGV[3], 'record', ARGV[4])
if ARGV[5] == '1' then
  redis.call('SADD', KEYS[2], ARGV[1])
else
  redis.call('SREM', KEYS[2], ARGV[1])
  if holder_of(redis.pcall('GET', KEYS[4])) == ARGV[1] then redis.call('DEL', KEYS[4]) end
end
for i = 7, #ARGV, 2 do append(KEYS[1], KEYS[3], ARGV[6], ARGV[i], ARGV[i + 1]) end
beat(KEYS[1])
return 1

-- KEYS run, runs, active, sequence, events, and the idempotency key of a run that has one
-- ARGV id, token, record, cluster, active ('1' or '0'), prefix of run keys, cap, time, digest and event of its creation
-- Returns id and record of the run that exists already, otherwise false.
local first = KEYS[6] and redis.call('GET', KEYS[6])
local present = first and redis.call('HGET', ARGV[6] .. first, 'record')
if present then return { first, present } end
present = redis.call('HGET', KEYS[1], 'record')
if present then return { ARGV[1], present } end
local state = opened_for_events(KEYS[1]) or {}
append(state, KEYS[5], ARGV[7], ARGV[8], ARGV[9], ARGV[10])
linked(KEYS[1], state, 'version', '0', 'token', ARGV[2], 'record', ARGV[3], 'cluster', ARGV[4])
if KEYS[6] then
  redis.call('SET', KEYS[6], ARGV[1])
  redis.call('HSET', KEYS[1], 'key', KEYS[6])
end
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[1])
if ARGV[5] == '1' then redis.call('SADD', KEYS[3], ARGV[1]) end
return false

-- KEYS run, outcomes of the turn, fences, index, events
-- ARGV field, node, fence, outcome, cap, digest and event of its end
-- Returns {'kept'}, {'exists', outcome}, {'late', newest fence}, or false: no such run.
if missing(KEYS[1]) then return false end
local present = redis.call('HGET', KEYS[2], ARGV[1])
if present then return {'exists', present} end
local newest = redis.call('HGET', KEYS[3], ARGV[2]) or '0'
if tonumber(ARGV[3]) < tonumber(newest) then return {'late', newest} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('SADD', KEYS[4], KEYS[2])
append(KEYS[1], KEYS[5], ARGV[5], ARGV[6], ARGV[7])
beat(KEYS[1])
return {'kept'}

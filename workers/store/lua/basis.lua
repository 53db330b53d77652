-- KEYS run, hash, index; ARGV kind, field, value. Returns the value that is kept: the first one; or false: no such run.
local state = opened(KEYS[1], 'kinds')
if not state then return false end
local present = redis.call('HGET', KEYS[2], ARGV[2])
if present then return present end
keep_document(state, KEYS[3], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[1], 'kinds', state.kinds)
return ARGV[3]

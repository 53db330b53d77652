-- KEYS run; ARGV name, value. This is no progress: operators set flags. Returns 1, or false: no such run.
local state = opened(KEYS[1], 'flags')
if not state then return false end
local flags = flags_of(state)
if ARGV[2] == '' then flags[ARGV[1]] = nil else flags[ARGV[1]] = ARGV[2] end
redis.call('HSET', KEYS[1], 'flags', cjson.encode(flags))
return 1

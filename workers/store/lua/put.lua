-- KEYS run, hash, index; ARGV kind, field, whether it is progress (1 or 0), value. Returns 1, or false: no such run.
local state = opened(KEYS[1], 'kinds')
if not state then return false end
keep_document(state, KEYS[3], KEYS[2], ARGV[1], ARGV[2], ARGV[4])
if ARGV[3] == '1' then
  beat(KEYS[1], state, 'kinds', state.kinds)
else
  redis.call('HSET', KEYS[1], 'kinds', state.kinds)
end
return 1

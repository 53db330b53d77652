-- KEYS run, hash, index; ARGV kind, field, value. Returns 1, or false: no such run.
local state = opened(KEYS[1], 'kinds')
if not state then return false end
keep_document(state, KEYS[3], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
beat(KEYS[1], state, 'kinds', state.kinds)
return 1

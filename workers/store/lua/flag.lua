-- KEYS run, events; ARGV name, value ('': none), cap, then time, digest and text of each event that says so
-- Without events this is no progress: operators set flags. Nothing happens if the flag has that value.
-- A run that has ended has no further events. Returns 1, or false: no such run.
local state = opened_for_events(KEYS[1], 'flags', 'ended')
if not state then return false end
local flags, value = flags_of(state), ARGV[2]
if (flags[ARGV[1]] or '') == value then return 1 end
flags[ARGV[1]] = value ~= '' and value or nil
redis.call('HSET', KEYS[1], 'flags', cjson.encode(flags))
if state.ended then return 1 end
for i = 4, #ARGV, 3 do append(state, KEYS[2], ARGV[3], ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
if #ARGV > 3 then linked(KEYS[1], state) end
return 1

-- KEYS run, active, events
-- ARGV id, version read, token of this write, record, active ('1' or '0'), prefix of locks, cap, then time, digest and text
-- of each event to note
-- Returns 1 saved, 0 another writer was faster, -1 no such run.
local state = opened_for_events(KEYS[1], 'token')
if not state then return -1 end
-- The same write again: its first reply was lost.
if state.token == ARGV[3] then return 1 end
if state.version ~= ARGV[2] then return 0 end
if ARGV[5] == '1' then
  redis.call('SADD', KEYS[2], ARGV[1])
else
  redis.call('SREM', KEYS[2], ARGV[1])
  unlock(KEYS[1], ARGV[1], ARGV[6])
end
for i = 8, #ARGV, 3 do append(state, KEYS[3], ARGV[7], ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
local written = { 'version', whole(state.version + 1), 'token', ARGV[3], 'record', ARGV[4] }
if ARGV[5] ~= '1' then written[7], written[8] = 'ended', '1' end
if state.head then linked(KEYS[1], state, unpack(written)) else beat(KEYS[1], state, unpack(written)) end
return 1

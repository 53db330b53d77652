-- KEYS run, events; ARGV cap, time, digest, event. Returns the event's id and link, '' for both if the run has ended, or
-- false: no such run.
local state = opened_for_events(KEYS[1], 'ended')
if not state then return false end
if state.ended then return { '', '' } end
local noted = append(state, KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
linked(KEYS[1], state)
return noted

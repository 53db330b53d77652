-- KEYS run, events; ARGV cap, digest, event. Returns the event's id and link, or false: no such run.
if missing(KEYS[1]) then return false end
beat(KEYS[1])
return append(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])

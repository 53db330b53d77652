-- KEYS run, events; ARGV cap, event. Returns the event's id, or false: no such run.
if missing(KEYS[1]) then return false end
beat(KEYS[1])
return redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[2])

-- KEYS lock, active; ARGV run, milliseconds. Returns the other run that holds it, otherwise false.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
-- Whoever renews may have read the run before it was concluded.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return false

-- KEYS lock, active, run; ARGV run, hold, the hold that the caller saw lapse (''). Returns another run's hold, or false.
local present = redis.pcall('GET', KEYS[1])
local holder = holder_of(present)
if holder and holder ~= ARGV[1] and present ~= ARGV[3] then return present end
-- The caller may have read the run before it was concluded.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 and not missing(KEYS[3]) then
  redis.call('HSET', KEYS[3], 'locked', '1')
  redis.call('SET', KEYS[1], ARGV[2])
end
return false

-- KEYS lock, active, run; ARGV run, hold, the hold that the asker saw lapse (''). Returns another run's hold, or false.
local standing = redis.pcall('GET', KEYS[1])
local holder = holder_of(standing)
if holder and holder ~= ARGV[1] and standing ~= ARGV[3] then return standing end
-- Whoever renews may have read the run before it was concluded.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 and not missing(KEYS[3]) then
  redis.call('HSET', KEYS[3], 'locked', '1')
  redis.call('SET', KEYS[1], ARGV[2])
end
return false

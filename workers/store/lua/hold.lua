-- KEYS lock; ARGV holder, hold ('' releases it), the hold that the caller saw lapse (''). Returns the hold of another holder, or false.
local present = redis.pcall('GET', KEYS[1])
local holder = holder_of(present)
if holder and holder ~= ARGV[1] and present ~= ARGV[3] then return present end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return false

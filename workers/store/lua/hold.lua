-- KEYS lock; ARGV holder, hold ('' gives it back), the hold that the asker saw lapse (''). Returns the hold that stands when it is another's.
local standing = redis.pcall('GET', KEYS[1])
local holder = holder_of(standing)
if holder and holder ~= ARGV[1] and standing ~= ARGV[3] then return standing end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return false

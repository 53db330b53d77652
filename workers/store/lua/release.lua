-- KEYS leases; ARGV node, holder. The fence stays: it must never be given out twice.
local _, holder = lease(KEYS[1], ARGV[1])
if holder == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0

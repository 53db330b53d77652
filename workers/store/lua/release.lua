-- KEYS leases; ARGV node, holder. The fence remains: it must never be given twice.
if holder_of(redis.call('HGET', KEYS[1], ARGV[1])) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0

-- KEYS run, leases; ARGV node, holder, hold. Returns 1, or 0: another holder, or none.
-- A lapsed lease that no other holder took can be renewed: its fence is still the newest.
if missing(KEYS[1]) or holder_of(redis.call('HGET', KEYS[2], ARGV[1])) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
beat(KEYS[1])
return 1

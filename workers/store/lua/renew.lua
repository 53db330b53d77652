-- KEYS run, leases; ARGV node, holder, hold. Returns 1, or 0: not ours (any more).
-- A lapsed lease that nobody took is still ours: its fence is still the newest.
if missing(KEYS[1]) or holder_of(redis.call('HGET', KEYS[2], ARGV[1])) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
beat(KEYS[1])
return 1

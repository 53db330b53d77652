-- KEYS run, hash, index; ARGV field, value. Returns 1, or false: no such run.
if missing(KEYS[1]) then return false end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('SADD', KEYS[3], KEYS[2])
beat(KEYS[1])
return 1

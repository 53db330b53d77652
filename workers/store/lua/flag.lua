-- KEYS run, flags; ARGV name, value. This is no progress: operators set flags. Returns 1, or false: no such run.
if missing(KEYS[1]) then return false end
if ARGV[2] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
return 1

-- KEYS run, fences, numbers; ARGV id, node, fence, number ('': as it is), prefix of locks
-- Returns 'late', 'astray', the run's number on the node ('' when it has none), or false: no such run.
if missing(KEYS[1]) then return false end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 'late' end
if astray(KEYS[1], ARGV[1], ARGV[5]) then return 'astray' end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], ARGV[2], ARGV[4]) end
return redis.call('HGET', KEYS[3], ARGV[2]) or ''

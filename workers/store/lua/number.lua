-- KEYS run, fences; ARGV id, node, fence, number and run to note ('': none), prefix of locks, prefix of numbers
-- Returns 'late', 'lost_cluster', the last number given for the node and its run (''), or false: no such run.
if missing(KEYS[1]) then return false end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 'late' end
local cluster = redis.call('HGET', KEYS[1], 'cluster')
if not cluster or holder_of(redis.pcall('GET', ARGV[5] .. cluster)) ~= ARGV[1] then return 'lost_cluster' end
if ARGV[4] ~= '' then redis.call('HSET', ARGV[6] .. cluster, ARGV[2], ARGV[4]) end
return redis.call('HGET', ARGV[6] .. cluster, ARGV[2]) or ''

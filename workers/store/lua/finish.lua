-- KEYS run, outcomes of the turn, leases, index, events, and the hash of each document that is kept with the outcome
-- ARGV field, node, fence (ANY_CLAIM: any worker may have the node), outcome, cap, time, digest and event of its end, the
-- holder whose lease is released ('': none), the outcomes that the turn has when it is complete ('0': not asked), then
-- kind, name and text of each document
-- Returns {'kept', complete}, {'exists', complete, outcome}, {'late', newest fence}, or false: no such run. `complete` is
-- 1 when the turn has all of its outcomes.
local state = opened_for_events(KEYS[1], 'indexed', 'held', 'kinds')
if not state then return false end
local function complete()
  return ARGV[10] ~= '0' and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[10]) and 1 or 0
end
local lease, fence = lease_in(KEYS[3], ARGV[2]), tonumber(ARGV[3])
-- Not only an older fence: a larger one is of a claim that this server has lost, and with it what began.
if fence ~= lease.fence and fence < ANY_CLAIM then
  local present = redis.call('HGET', KEYS[2], ARGV[1])
  if present then return { 'exists', complete(), present } end
  return { 'late', whole(lease.fence) }
end
local released = ARGV[9] ~= '' and lease.holder == ARGV[9]
if released then end_lease(state, KEYS[3], ARGV[2], lease) end
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[4]) == 0 then
  if released then redis.call('HSET', KEYS[1], 'held', state.held) end
  return { 'exists', complete(), redis.call('HGET', KEYS[2], ARGV[1]) }
end
for i = 6, #KEYS do
  local at = 11 + 3 * (i - 6)
  keep_document(state, KEYS[4], KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
-- Once a turn: outcomes come turn by turn.
if state.indexed ~= KEYS[2] then redis.call('SADD', KEYS[4], KEYS[2]) end
append(state, KEYS[5], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
linked(KEYS[1], state, 'indexed', KEYS[2], 'held', state.held or '0', 'kinds', state.kinds or ' ')
return { 'kept', complete() }

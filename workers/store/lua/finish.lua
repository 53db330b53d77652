-- KEYS run, outcomes of the turn, leases, index, events, the nodes that wait, and the hash of each document that is kept
-- with the outcome
-- ARGV field, node, fence (ANY_CLAIM: any worker may have the node), outcome, cap, time, digest and event of its end, the
-- holder whose lease is released ('': none), the outcomes that the turn has when it is complete ('0': not asked), '1' when
-- the node has more steps in the turn, then kind, name and text of each document
-- Returns {'kept', complete, next}, {'exists', complete, next, outcome}, {'late', newest fence}, or false: no such run.
-- `complete` is 1 when the turn has all of its outcomes, `next` is a node that waited and may begin now ('': none).
local state = opened_for_events(KEYS[1], 'indexed', 'held', 'kinds')
if not state then return false end
local function complete()
  return ARGV[10] ~= '0' and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[10]) and 1 or 0
end
local lease, fence = lease_in(KEYS[3], ARGV[2]), tonumber(ARGV[3])
-- Not only an older fence: a larger one is of a claim that this server has lost, and with it what began.
if fence ~= lease.fence and fence < ANY_CLAIM then
  local present = redis.call('HGET', KEYS[2], ARGV[1])
  if present then return { 'exists', complete(), '', present } end
  return { 'late', whole(lease.fence) }
end
local kept = redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[4]) == 1
local released, following = ARGV[9] ~= '' and lease.holder == ARGV[9], ''
if released and kept and ARGV[11] == '1' then
  keep_place(KEYS[3], ARGV[2], lease, KEYS[2])
elseif released or (kept and ARGV[11] ~= '1' and lease.hold == place_in(KEYS[2])) then
  end_lease(state, KEYS[3], ARGV[2], lease)
  if released then following = next_waiting(KEYS[6], KEYS[2]) end
end
if not kept then
  if released then redis.call('HSET', KEYS[1], 'held', state.held) end
  return { 'exists', complete(), following, redis.call('HGET', KEYS[2], ARGV[1]) }
end
for i = 7, #KEYS do
  local at = 12 + 3 * (i - 7)
  keep_document(state, KEYS[4], KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
-- Once a turn: outcomes come turn by turn.
if state.indexed ~= KEYS[2] then redis.call('SADD', KEYS[4], KEYS[2]) end
append(state, KEYS[5], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
linked(KEYS[1], state, 'indexed', KEYS[2], 'held', state.held or '0', 'kinds', state.kinds or ' ')
return { 'kept', complete(), following }

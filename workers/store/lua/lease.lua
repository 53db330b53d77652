-- Comes before the scripts that claim or release nodes.
-- What a run knows of its writers on a node, in one text: 'FENCE NUMBER HOLD'. The fence is that of the last claim, the
-- number is that of the run on the node (0: none yet), the hold is empty while no worker has the lease, or the place of
-- the node between two of its steps. The fence remains when the lease ends: it must never be given twice.
local ANY_CLAIM = 2 ^ 53 -- workers/store/port.py

local function lease_of(text)
  if not text then return { fence = 0, number = '0', hold = '' } end
  local fence, number, hold = string.match(text, '^(%d+) (%d+) (.*)$')
  if not fence then error('not a lease') end
  return { fence = tonumber(fence), number = number, hold = hold, holder = holder_of(hold) }
end

local function lease_in(leases, node)
  return lease_of(redis.call('HGET', leases, node))
end

local function text_of(lease)
  return whole(lease.fence) .. ' ' .. lease.number .. ' ' .. lease.hold
end

-- What a node has in place of a hold between two of its steps in a turn, which is named by the key of its outcomes: it is
-- in work all the same.
local function place_in(turn)
  return '- ' .. turn
end

local function keep_lease(leases, node, lease)
  redis.call('HSET', leases, node, text_of(lease))
end

-- Ends a lease; the caller writes how many are held, which is what `state` knows of it.
local function end_lease(state, leases, node, lease)
  lease.hold, lease.holder = '', nil
  state.held = whole(math.max(0, (tonumber(state.held) or 0) - 1))
  keep_lease(leases, node, lease)
end

-- Ends a lease before the next step of the node in this turn: the node keeps its place among those that are held.
local function keep_place(leases, node, lease, turn)
  lease.hold, lease.holder = place_in(turn), nil
  keep_lease(leases, node, lease)
end

-- How many nodes but one are in work: they have a lease that the caller did not see lapse, or a place in this turn.
local function count_held(leases, but, lapsed, place)
  local kept, count = redis.call('HGETALL', leases), 0
  for i = 1, #kept, 2 do
    local lease = lease_of(kept[i + 1])
    local live = lease.hold == place or (lease.holder and lapsed[kept[i]] ~= lease.hold)
    if kept[i] ~= but and live then count = count + 1 end
  end
  return count
end

-- Takes the lease on a node and returns it; or nil and the reason: 'lost_servers', 'full', or 'held' and the hold.
-- `state` is that of the run, with 'locked', 'lock' and 'held'; `limit` 0 is none; `lapsed` has the holds that the caller
-- saw lapse, by node; `place` is that of a node that is in work already. The caller writes `state.held`.
local function claimed(state, leases, id, node, holder, hold, limit, lapsed, place)
  if state.locked and not has_servers(state, id) then return nil, 'lost_servers' end
  local lease, held = lease_in(leases, node), tonumber(state.held) or 0
  lease.again = lease.hold == hold -- the same claim: its first reply was lost
  if lease.holder ~= holder then
    if lease.holder and lapsed[node] ~= lease.hold then return nil, 'held', lease.hold end
    if limit > 0 and held >= limit then
      held = count_held(leases, node, lapsed, place)
      if held >= limit then return nil, 'full' end
    end
    if not lease.holder and lease.hold ~= place then state.held = whole(held + 1) end
    -- By a random step, from the random word of the hold: a replica that becomes the primary may not know the last claim,
    -- and the next one must not be equal to it, because its worker may still write.
    lease.fence = lease.fence + 1 + tonumber(string.sub(hold, 1, 4), 16)
  end
  lease.hold, lease.holder = hold, holder
  keep_lease(leases, node, lease)
  return lease
end

-- The pairs of node and hold that a caller saw lapse, from an argument on.
local function lapsed_from(first)
  local lapsed = {}
  for i = first, #ARGV, 2 do lapsed[ARGV[i]] = ARGV[i + 1] end
  return lapsed
end

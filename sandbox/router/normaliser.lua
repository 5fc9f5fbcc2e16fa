-- The normaliser: finds the routing key of a request, refuses what cannot be trusted, decides who serves it and
-- re-emits every carrier for the next hop. Its rules have a twin in sandbox/carriers.py, and a property test holds
-- the two together.
--
-- What holds: a request without a key leaves as it came. sandbox/router/routes.py writes the constants above this
-- text and delivers both with the route, so the table of keys is a Lua table that changes in one step, and the cost
-- of a look-up does not depend on how many keys there are.
--   KEYS: key -> "b" (known); key.N -> "ip:port generation" or "x" (planted fault), N the service's number; "@slot" -> key
--   SERVICES: baseline cluster -> {number = ".N", forks = cluster, host = authority outside of this machine or nil}
--   OUTSIDE: whether any service has a host; EXTRA: further carriers; INGRESS: whether this is the keyed ingress

local MARK = "5b17"
local MEMBER = "spurline-key"
local REFUSED, FAULT, FAILED_PRECONDITION = "421", "503", "9"

local find, sub, match, gmatch, gsub = string.find, string.sub, string.match, string.gmatch, string.gsub
local format, random, concat = string.format, math.random, table.concat

math.randomseed(SEED)

local function is_key(text)
  return #text == 16 and not find(text, "[^0-9a-f]")
end

local function trim(text)
  return match(text, "^[ \t]*(.-)[ \t]*$")
end

local function decoded(text)
  return (gsub(text, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function masked(key)
  return sub(key, 1, 4) .. "…"
end

local function hex(digits)
  local parts = {}
  for i = 1, digits / 4 do parts[i] = format("%04x", random(0, 65535)) end
  return concat(parts)
end

-- The parts of the first valid traceparent in `text`, or nil: trace id, parent id.
local function traceparent(text)
  for item in gmatch(text, "[^,]+") do
    local version, trace, parent, rest = match(trim(item), "^(%x%x)%-(%x+)%-(%x+)%-(.*)$")
    if version and version ~= "ff" and #trace == 32 and #parent == 16 and not find(trace .. parent, "[^0-9a-f]")
        and find(rest, "^%x%x") and (#rest == 2 or sub(rest, 3, 3) == "-") then
      return trace, parent
    end
  end
end

-- What the carriers say. `seen` is keyed by key; `order` lists {carrier, key}; `bad` lists carriers.
local function note(found, carrier, key)
  if not is_key(key) then
    found.bad[#found.bad + 1] = carrier
    return
  end
  found.order[#found.order + 1] = { carrier, key }
end

local function read_list(found, text)
  for item in gmatch(text .. ",", "([^,]*),") do note(found, "header", trim(item)) end
end

local function read_members(found, carrier, text, properties)
  for item in gmatch(text, "[^,]+") do
    local member = item
    if properties then member = match(item, "^[^;]*") end
    local name, value = match(member, "^([^=]*)=(.*)$")
    if trim(name or member) == MEMBER then
      value = trim(value or "")
      if properties then value = decoded(value) end
      note(found, carrier, value)
    end
  end
end

local function read_other(found, text)
  text = trim(text)
  if is_key(text) then return note(found, "other", text) end
  if #text == 36 then text = gsub(text, "-", "") end
  for run in gmatch(text, "[0-9a-f]+") do
    if #run == 32 and sub(run, 1, 4) == MARK then note(found, "other", sub(run, 5, 20)) end
  end
end

local function read(headers)
  local own, baggage = headers:get("x-spurline-key"), headers:get("baggage")
  local state, parent = headers:get("tracestate"), headers:get("traceparent")
  local found
  local function start() found = found or { order = {}, bad = {} } return found end
  if own then read_list(start(), own) end
  if baggage and find(baggage, MEMBER, 1, true) then read_members(start(), "baggage", baggage, true) end
  if state and find(state, MEMBER, 1, true) then read_members(start(), "tracestate", state, false) end
  if parent and find(parent, MARK, 1, true) then
    local trace = traceparent(parent)
    if trace and sub(trace, 1, 4) == MARK then note(start(), "trace-id", sub(trace, 5, 20)) end
  end
  for i = 1, #EXTRA do
    local value = headers:get(EXTRA[i])
    if value then read_other(start(), value) end
  end
  return found, own, baggage, state, parent
end

local function names(order)
  local list, last = {}, nil
  for i = 1, #order do
    if order[i][1] ~= last then
      last = order[i][1]
      list[#list + 1] = last
    end
  end
  return list
end

local function quoted(list)
  return '["' .. concat(list, '","') .. '"]'
end

local function record(handle, keys, order, served)
  handle:streamInfo():dynamicMetadata():set("spurline", "r", keys .. "|" .. concat(names(order), ",") .. "|" .. served)
end

-- Envoy turns the answer to a gRPC call into a status of its own, which would be UNKNOWN for 421: say what it is.
local function answer(handle, status, body)
  local headers = { [":status"] = status, ["content-type"] = "application/json" }
  if status == REFUSED and find(handle:headers():get("content-type") or "", "application/grpc", 1, true) == 1 then
    headers = { [":status"] = status, ["grpc-status"] = FAILED_PRECONDITION }
  end
  handle:respond(headers, body)
end

local function refuse(handle, found, body)
  local keys, known = {}, {}
  for i = 1, #found.order do
    local key = found.order[i][2]
    if not known[key] then
      known[key] = true
      keys[#keys + 1] = key
    end
  end
  record(handle, concat(keys, ","), found.order, "r")
  answer(handle, REFUSED, body)
end

local function refuse_malformed(handle, found)
  refuse(handle, found, '{"error":"malformed routing key","carriers":' .. quoted(found.bad)
    .. ',"hint":"a routing key is 16 lower-case hex digits"}')
end

local function refuse_disagreement(handle, found)
  local said = {}
  for i = 1, #found.order do
    said[i] = '{"carrier":"' .. found.order[i][1] .. '","key":"' .. masked(found.order[i][2]) .. '"}'
  end
  refuse(handle, found, '{"error":"routing keys disagree","carriers":[' .. concat(said, ",")
    .. '],"hint":"send one routing key; every carrier of a request must hold the same"}')
end

local function refuse_unknown(handle, found, key)
  refuse(handle, found, '{"error":"unknown routing key","key":"' .. masked(key)
    .. '","hint":"the sandbox has expired, was deleted or never was; create it again and use its new key"}')
end

-- The carriers of the next hop, each only touched where it does not hold the key yet.
local function emit(headers, key, order, own, baggage, state, parent)
  local holds = {}
  for i = 1, #order do holds[order[i][1]] = true end
  if own ~= key then headers:replace("x-spurline-key", key) end
  if not holds["baggage"] then
    local member = MEMBER .. "=" .. key
    if baggage and trim(baggage) ~= "" then member = baggage .. "," .. member end
    headers:replace("baggage", member)
  end
  if not holds["tracestate"] then
    local member = MEMBER .. "=" .. key
    if state and trim(state) ~= "" then member = member .. "," .. state end
    headers:replace("tracestate", member)
  end
  if holds["trace-id"] and #EXTRA == 0 then return end
  local trace, span
  if parent then trace, span = traceparent(parent) end
  if not holds["trace-id"] then
    local tail = trace and sub(trace, 21) or hex(12)
    trace, span = MARK .. key .. tail, span or hex(16)
    headers:replace("traceparent", "00-" .. trace .. "-" .. span .. "-01")
  end
  for i = 1, #EXTRA do
    local other = { order = {}, bad = {} }
    read_other(other, headers:get(EXTRA[i]) or "")
    if #other.order == 0 then
      headers:replace(EXTRA[i], EXTRA[i] == "b3" and trace .. "-" .. span .. "-1" or trace)
    end
  end
end

local function without(text, properties)
  local kept = {}
  for item in gmatch(text, "[^,]+") do
    local member = properties and match(item, "^[^;]*") or item
    if trim(match(member, "^([^=]*)=") or member) ~= MEMBER then kept[#kept + 1] = item end
  end
  return concat(kept, ",")
end

local function keep(headers, name, text)
  if text == "" then headers:remove(name) else headers:replace(name, text) end
end

-- Out of the system: nothing of the key leaves.
local function strip(headers, baggage, state, parent)
  headers:remove("x-spurline-key")
  if baggage then keep(headers, "baggage", without(baggage, true)) end
  if state then keep(headers, "tracestate", without(state, false)) end
  if parent then
    local trace, span = traceparent(parent)
    if trace and sub(trace, 1, 4) == MARK then
      headers:replace("traceparent", "00-" .. "0000" .. hex(28) .. "-" .. span .. "-01")
    end
  end
  for i = 1, #EXTRA do
    local other = { order = {}, bad = {} }
    read_other(other, headers:get(EXTRA[i]) or "")
    if #other.order > 0 then headers:remove(EXTRA[i]) end
  end
end

local function settle(handle, found)
  local first = found.order[1]
  if #found.bad > 0 then return refuse_malformed(handle, found) end
  for i = 2, #found.order do
    if found.order[i][2] ~= first[2] then return refuse_disagreement(handle, found) end
  end
  return first[2]
end

-- Who serves a key that is known: a fork, or the baseline, which is where the request goes already.
local function route(handle, headers, service, key, entry, order)
  if entry == "b" then return record(handle, key, order, "b") end
  local address, generation = match(entry, "^(%S+) (%d+)$")
  handle:streamInfo():dynamicMetadata():set("spurline", "d", address)
  headers:replace("x-spurline-cluster", service.forks)
  handle:clearRouteCache()
  record(handle, key, order, "f" .. generation)
end

-- What the ingress adds to what the client said: the key of the slot that the request came in by.
local function enter(handle, headers, found)
  local key = KEYS["@" .. (headers:get("x-spurline-slot") or "")]
  found = found or { order = {}, bad = {} }
  if not key then
    return nil, refuse(handle, found,
      '{"error":"no sandbox at this address","hint":"it has expired or was deleted; create it again"}')
  end
  local all = { { "ingress", key } }
  for i = 1, #found.order do all[i + 1] = found.order[i] end
  return { order = all, bad = found.bad, sent = found.order }
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local found, own, baggage, state, parent = read(headers)
  if not found and not INGRESS and not OUTSIDE then return end
  local service = SERVICES[headers:get("x-spurline-cluster")]
  if service.host then headers:replace(":authority", service.host) end
  if INGRESS then
    found = enter(handle, headers, found)
  elseif not found then
    return
  end
  local key = settle(handle, found)
  local order = found.sent or found.order
  local entry = KEYS[key .. service.number] or KEYS[key]
  if not entry and REFUSE_UNKNOWN then return refuse_unknown(handle, found, key) end
  if entry == "x" then
    record(handle, key, order, "x")
    return answer(handle, FAULT, '{"error":"planted fault","hint":"the router answers for this service, on purpose"}')
  end
  if service.host then
    strip(headers, baggage, state, parent)
  elseif entry then
    emit(headers, key, order, own, baggage, state, parent)
  end
  route(handle, headers, service, key, entry or "b", order)
end

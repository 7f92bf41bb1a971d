-- Health of a DSPyApp for Argo CD. The kind follows kstatus, so this reads the object in kstatus'
-- order: deletion, generation, Reconciling, Stalled, Ready. `Paused` is ours: Suspended.
local function progressing(message)
  return {status = "Progressing", message = message}
end

local function text(condition)
  return condition.reason .. ": " .. condition.message
end

if obj.metadata.deletionTimestamp ~= nil then
  return progressing("The app is being deleted.")
end

local status = obj.status or {}
local is_true, shown = {}, {}
for _, condition in ipairs(status.conditions or {}) do
  shown[condition.type] = condition
  is_true[condition.type] = condition.status == "True"
end

-- A paused app never catches up with its generation: nothing is written for it.
if obj.spec ~= nil and obj.spec.paused and is_true.Paused then
  return {status = "Suspended", message = text(shown.Paused)}
end
if status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return progressing("The operator has not looked at this version of the app yet.")
end
if is_true.Reconciling then
  return progressing(text(shown.Reconciling))
end
if is_true.Stalled then
  return {status = "Degraded", message = text(shown.Stalled)}
end
if is_true.Ready then
  return {status = "Healthy", message = text(shown.Ready)}
end
if shown.Ready ~= nil then
  return progressing(text(shown.Ready))
end
return progressing("The operator has not judged the app yet.")

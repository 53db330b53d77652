# Part of the agent: Windows services.
${function:Get-Controller} = {
    param([string]$Name)
    if (-not $OnWindows) { Stop-Operation 'not_found' 'this system has no Windows services' }
    [void][Reflection.Assembly]::Load('System.ServiceProcess, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b03f5f7f11d50a3a')
    # The constructor also accepts display names, and PowerShell hides exceptions that a property throws.
    foreach ($one in [ServiceProcess.ServiceController]::GetServices()) {
        if ($one.ServiceName -eq $Name) { return $one }
        $one.Dispose()
    }
    Stop-Operation 'not_found' "there is no service named $Name"
}

${function:Get-ServiceRow} = {
    param([string]$Name)
    $literal = $Name.Replace('\', '\\').Replace("'", "\'")
    return Get-CimInstance -ClassName Win32_Service -Filter "Name='$literal'"
}

${function:Get-StartTime} = {
    param([int]$Id)
    try { return Get-TimeText ([Diagnostics.Process]::GetProcessById($Id).StartTime) }
    catch { return $null }
}

${function:Get-RunningDependent} = {
    param($Controller)
    foreach ($other in $Controller.DependentServices) {
        if ($other.Status -ne 'Stopped') { $other.ServiceName }
        $other.Dispose()
    }
}

${function:Get-ServiceFact} = {
    param($Controller)
    $row = Get-ServiceRow $Controller.ServiceName
    $started = $null
    if ($row.ProcessId) { $started = Get-StartTime $row.ProcessId }
    return @{
        name = $row.Name; display = $row.DisplayName; image_path = $row.PathName; pid = [int]$row.ProcessId; started = $started
        state = $row.State.ToLowerInvariant().Replace(' ', '_'); start_type = $row.StartMode.ToLowerInvariant()
        dependents = @(Get-RunningDependent $Controller); exit_code = [long]$row.ExitCode
    }
}

# The system's words for an error, in the language of the machine, and its number, which is the same everywhere.
${function:Get-ErrorText} = {
    param([int]$Code)
    return "$((New-Object ComponentModel.Win32Exception $Code).Message) (error $Code)"
}

${function:Stop-Control} = {
    param([string]$Name, [string]$What, [int]$Code)
    $slug = 'failed'
    if ($Code -eq 5) { $slug = 'access_denied' }
    Stop-Operation $slug "the service $Name cannot be ${What}: $(Get-ErrorText $Code)" -Code $Code
}

# 1066: the service ended with a number of its own, which is no error of the system.
${function:Stop-Ended} = {
    param([string]$Name, $Row)
    $why = "the process of $Name ended while it was starting"
    if ($Row.ExitCode -eq 1066) { Stop-Operation 'failed' "$why, with its own error $($Row.ServiceSpecificExitCode)" -Code 1066 }
    if (-not $Row.ExitCode) { Stop-Operation 'failed' $why }
    Stop-Operation 'failed' "${why}: $(Get-ErrorText $Row.ExitCode)" -Code $Row.ExitCode
}

# The controller only says that it failed; the reason is in the error of the system below.
${function:Invoke-Control} = {
    param([string]$Name, [string]$What, [ScriptBlock]$Control)
    try { & $Control }
    catch {
        $cause = $_.Exception
        while ($cause -and $cause -isnot [ComponentModel.Win32Exception]) { $cause = $cause.InnerException }
        if ($null -eq $cause) { throw }
        Stop-Control $Name $What $cause.NativeErrorCode
    }
}

# Polls until the service is in one of the states.
${function:Wait-Service} = {
    param($Controller, [string[]]$Wanted, $Clock, [double]$Deadline)
    while ($true) {
        $Controller.Refresh()
        $state = $Controller.Status.ToString()
        if ($Wanted -contains $state) { return $state }
        if ($Clock.Elapsed.TotalSeconds -ge $Deadline) {
            $word = ($state -creplace '(?<=[a-z])(?=[A-Z])', '_').ToLowerInvariant()
            Stop-Operation 'timeout' "the service $($Controller.ServiceName) is still $word after $Deadline s"
        }
        [Threading.Thread]::Sleep(100)
    }
}

${function:Stop-ServiceSafely} = {
    param($Controller, $Clock, [double]$Deadline)
    $name = $Controller.ServiceName
    $state = Wait-Service $Controller ('Stopped', 'StopPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Stopped') { return $false }
    $running = @(Get-RunningDependent $Controller) -join ', '
    if ($running) { Stop-Operation 'failed' "services that depend on $name are running: $running" }
    if ($state -ne 'StopPending') { Invoke-Control $name 'stopped' { $Controller.Stop() } }
    [void](Wait-Service $Controller 'Stopped' -Clock $Clock -Deadline $Deadline)
    return $true
}

${function:Start-ServiceSafely} = {
    param($Controller, $Clock, [double]$Deadline)
    $name = $Controller.ServiceName
    $state = Wait-Service $Controller ('Stopped', 'StartPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Running') { return $false }
    if ($state -eq 'Paused') { Stop-Operation 'failed' "the service $name is paused" }
    if ((Get-ServiceRow $name).StartMode -eq 'Disabled') { Stop-Control $name 'started' 1058 }
    if ($state -eq 'Stopped') { Invoke-Control $name 'started' { $Controller.Start() } }
    if ((Wait-Service $Controller ('Running', 'Stopped') -Clock $Clock -Deadline $Deadline) -eq 'Stopped') {
        Stop-Ended $name (Get-ServiceRow $name)
    }
    return $true
}

${function:Invoke-Service} = {
    param($Fields)
    $name = Get-Field $Fields 'name' -Kind 'text'
    $action = Get-Field $Fields 'action' -Kind 'text' -Default 'query'
    $deadline = Get-Field $Fields 'deadline' -Kind 'seconds' -Default 60
    if ('query', 'stop', 'start' -cnotcontains $action) { Stop-Operation 'invalid' 'action must be query, stop or start' }
    $record = $null
    if ($action -eq 'start') { $record = Get-StartRecord $Fields 'loaded' 'map of texts' }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $controller = Get-Controller $name
    try {
        $changed = $false
        if ($action -eq 'stop') { $changed = Stop-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        if ($action -eq 'start') { $changed = Start-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        $result = Get-ServiceFact $controller
        if ($record -and $changed -and $result.pid) {
            Save-StartRecord $record.file -Service $result.name -Id $result.pid -Started $result.started -Loaded $record.loaded
        }
    }
    finally { $controller.Dispose() }
    $result['changed'] = $changed
    return $result
}

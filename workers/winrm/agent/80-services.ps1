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
        dependents = @(Get-RunningDependent $Controller)
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
    $state = Wait-Service $Controller ('Stopped', 'StopPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Stopped') { return $false }
    $running = @(Get-RunningDependent $Controller) -join ', '
    if ($running) { Stop-Operation 'failed' "services that depend on $($Controller.ServiceName) are running: $running" }
    if ($state -ne 'StopPending') { $Controller.Stop() }
    [void](Wait-Service $Controller 'Stopped' -Clock $Clock -Deadline $Deadline)
    return $true
}

${function:Start-ServiceSafely} = {
    param($Controller, $Clock, [double]$Deadline)
    $name = $Controller.ServiceName
    $state = Wait-Service $Controller ('Stopped', 'StartPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Running') { return $false }
    if ($state -eq 'Paused') { Stop-Operation 'failed' "the service $name is paused" }
    if ((Get-ServiceRow $name).StartMode -eq 'Disabled') { Stop-Operation 'failed' "the service $name is disabled and cannot be started" }
    if ($state -eq 'Stopped') { $Controller.Start() }
    if ((Wait-Service $Controller ('Running', 'Stopped') -Clock $Clock -Deadline $Deadline) -eq 'Stopped') {
        Stop-Operation 'failed' "the process of $name ended while it was starting, exit code $((Get-ServiceRow $name).ExitCode)"
    }
    return $true
}

${function:Invoke-Service} = {
    param($Fields)
    $name = Get-Field $Fields 'name' -Kind 'text'
    $action = Get-Field $Fields 'action' -Kind 'text' -Default 'query'
    $deadline = Get-Field $Fields 'deadline' -Kind 'seconds' -Default 60
    if ('query', 'stop', 'start' -cnotcontains $action) { Stop-Operation 'invalid' 'action must be query, stop or start' }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $controller = Get-Controller $name
    try {
        $changed = $false
        if ($action -eq 'stop') { $changed = Stop-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        if ($action -eq 'start') { $changed = Start-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        $result = Get-ServiceFact $controller
    }
    finally { $controller.Dispose() }
    $result['changed'] = $changed
    return $result
}

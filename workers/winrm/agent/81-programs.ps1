# Part of the agent: running a program with a deadline.
# Quotes one argument so that the C runtime of Windows parses it back to the same text.
${function:Get-Argument} = {
    param([string]$Text)
    if ($Text -match '\A[^\s"]+\z') { return $Text }
    return '"' + ($Text -replace '(\\*)"', '$1$1\"' -replace '(\\+)\z', '$1$1') + '"'
}

${function:Start-Program} = {
    param([string]$Program, $Arguments)
    $info = New-Object Diagnostics.ProcessStartInfo $Program
    $info.Arguments = @(foreach ($text in $Arguments) { Get-Argument $text }) -join ' '
    $info.UseShellExecute = $false
    $info.CreateNoWindow = $true
    $info.RedirectStandardInput = $info.RedirectStandardOutput = $info.RedirectStandardError = $true
    $process = [Diagnostics.Process]::Start($info)
    $process.StandardInput.Close()
    return $process
}

${function:Stop-Tree} = {
    param($Process)
    if ($Process.HasExited) { return }
    if ((Get-Edition) -eq 'Core') { $Process.Kill($true) }
    else { [void](Start-Program "$env:SystemRoot\System32\taskkill.exe" ('/T', '/F', '/PID', "$($Process.Id)")).WaitForExit(10000) }
}

# Reads the characters that have arrived on a stream; returns whether there were any.
${function:Read-Arrived} = {
    param($Output)
    if ($null -eq $Output.task -or -not $Output.task.IsCompleted) { return $false }
    $count = $Output.task.Result
    $room = [Math]::Min($count, 65536 - $Output.text.Length)
    [void]$Output.text.Append($Output.buffer, 0, $room)
    $Output.task = $null
    if ($count) { $Output.task = $Output.reader.ReadAsync($Output.buffer, 0, $Output.buffer.Length) }
    return $true
}

${function:New-Output} = {
    param($Reader)
    $buffer = New-Object char[] 8192
    return @{ reader = $Reader; buffer = $buffer; text = New-Object Text.StringBuilder; task = $Reader.ReadAsync($buffer, 0, 8192) }
}

# Returns false at the deadline. A child that outlives the program keeps the streams open, so reading ends two seconds after
# the program.
${function:Wait-Program} = {
    param($Process, $Outputs, [double]$Deadline)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $ended = [double]::MaxValue
    while ($clock.Elapsed.TotalSeconds -lt $ended + 2) {
        $busy = @(foreach ($output in $Outputs) { Read-Arrived $output }) -contains $true
        if (-not $Process.HasExited) {
            if ($clock.Elapsed.TotalSeconds -gt $Deadline) { return $false }
        }
        elseif (-not ($Outputs[0].task -or $Outputs[1].task)) { return $true }
        elseif ($ended -eq [double]::MaxValue) { $ended = $clock.Elapsed.TotalSeconds }
        if (-not $busy) { [Threading.Thread]::Sleep(10) }
    }
    return $true
}

${function:Invoke-Run} = {
    param($Fields)
    $program = Get-Path $Fields 'program'
    $list = New-Object Collections.Generic.List[object]
    $arguments = Get-Field $Fields 'args' -Kind 'texts' -Default $list
    $deadline = Get-Field $Fields 'deadline' -Kind 'seconds' -Default 60
    $process = Start-Program (Get-File $program).FullName $arguments
    $outputs = @((New-Output $process.StandardOutput), (New-Output $process.StandardError))
    if (-not (Wait-Program $process $outputs -Deadline $deadline)) {
        Stop-Tree $process
        Stop-Operation 'timeout' "the program did not end within $deadline s and was stopped" -Path $program
    }
    return @{ exit = $process.ExitCode; stdout = $outputs[0].text.ToString(); stderr = $outputs[1].text.ToString() }
}

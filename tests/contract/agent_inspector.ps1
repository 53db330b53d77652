# The inspector of the agent's cases on a Windows host: sets up, inspects and cleans up without the agent.
# Each line is a script in base64. The answer is + and its result, or - and the error, in base64.
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$Utf8 = New-Object Text.UTF8Encoding
$Held = New-Object 'Collections.Generic.List[IDisposable]'
$Background = New-Object 'Collections.Generic.List[IDisposable]'
$Out = [Console]::OpenStandardOutput()

${function:ConvertFrom-Base64} = { param([string]$Base64) return $Utf8.GetString([Convert]::FromBase64String($Base64)) }

${function:Write-Bytes} = {
    param([string]$Path, [string]$Base64)
    $null = [IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName($Path))
    [IO.File]::WriteAllBytes($Path, [Convert]::FromBase64String($Base64))
}

${function:Write-Many} = {
    param([string]$Folder, [int]$Count)
    $null = [IO.Directory]::CreateDirectory($Folder)
    foreach ($number in 1..$Count) { [IO.File]::Create(('{0}\{1:d5}' -f $Folder, ($number - 1))).Dispose() }
}

${function:Add-Attribute} = {
    param([string]$Path, [string]$Attribute)
    [IO.File]::SetAttributes($Path, ([IO.File]::GetAttributes($Path) -bor [IO.FileAttributes]$Attribute))
}

# Every Windows has mklink in cmd.exe; only PowerShell 5 and later can create junctions.
${function:New-Link} = {
    param([string]$Path, [string]$Target)
    $kind = ''
    if ([IO.Directory]::Exists($Target)) { $kind = '/J' }
    $null = & cmd.exe /c "mklink $kind `"$Path`" `"$Target`" >nul 2>&1"
    $made = Test-Path -LiteralPath $Path
    if (-not $made) { throw "no link can be made at $Path" }
}

${function:Remove-Link} = {
    param([string]$Path)
    if ([IO.Directory]::Exists($Path)) { [IO.Directory]::Delete($Path) } else { [IO.File]::Delete($Path) }
}

# The fast method fails for read-only files. Links are removed before: not every PowerShell stops at them.
${function:Remove-Tree} = {
    param([string]$Path)
    if (-not [IO.Directory]::Exists($Path)) { return }
    try { [IO.Directory]::Delete($Path, $true) } catch { Remove-Item -LiteralPath $Path -Recurse -Force }
}

${function:Get-State} = {
    param([string]$Path)
    if ([IO.Directory]::Exists($Path)) { return 'folder' }
    if (-not [IO.File]::Exists($Path)) { return 'nothing' }
    return [Convert]::ToBase64String([IO.File]::ReadAllBytes($Path))
}

${function:Get-ProcessOf} = {
    param([string]$Service)
    return (Get-CimInstance Win32_Service -Filter "Name='$Service'").ProcessId
}

${function:Remove-OurService} = {
    param([string]$Name)
    $id = Get-ProcessOf $Name
    if ($id) {
        Stop-Process -Id $id -Force -ErrorAction SilentlyContinue
        Start-Sleep -Milliseconds 300
    }
    $null = & sc.exe delete $Name
}

# In its own runspace: sends prepared answers after `wait` seconds.
$Serve = {
    param($Listener, $Answers)
    while ($true) {
        $client = $Listener.AcceptTcpClient()
        try {
            $stream = $client.GetStream()
            $stream.ReadTimeout = 5000
            $reader = New-Object IO.StreamReader $stream
            $asked = [string]$reader.ReadLine()
            while ($reader.ReadLine()) { continue }
            $path = ($asked + '  ').Split(' ')[1]
            if ($Answers.ContainsKey($path)) {
                [Threading.Thread]::Sleep(1000 * $Answers[$path].Wait)
                $bytes = $Answers[$path].Bytes
                $stream.Write($bytes, 0, $bytes.Length)
            }
        }
        catch { continue }
        finally { $client.Close() }
    }
}

# In its own runspace, for a service that must die during its start: ends the process that its log names.
$KillStarting = {
    param($Log)
    foreach ($turn in 1..600) {
        [Threading.Thread]::Sleep(50)
        if (-not [IO.File]::Exists($Log)) { continue }
        $text = New-Object IO.StreamReader (New-Object IO.FileStream $Log, 'Open', 'Read', 'ReadWrite')
        try { $found = [regex]::Match($text.ReadToEnd(), ' starting pid=(\d+)') } finally { $text.Dispose() }
        if ($found.Success) {
            [Diagnostics.Process]::GetProcessById($found.Groups[1].Value).Kill()
            return
        }
    }
}

${function:Start-Background} = {
    param([scriptblock]$Script, [object[]]$Arguments)
    # The default state loads all modules before the script runs.
    $state = [Management.Automation.Runspaces.InitialSessionState]::CreateDefault2()
    $shell = [PowerShell]::Create($state).AddScript($Script.ToString())
    foreach ($argument in $Arguments) { $shell = $shell.AddArgument($argument) }
    $Background.Add($shell)
    $null = $shell.BeginInvoke()
}

# Opens a file exclusively, like another program.
${function:Add-Held} = {
    param([string]$Path)
    $Held.Add([IO.File]::Open($Path, 'Open', 'ReadWrite', 'None'))
}

${function:Clear-Held} = {
    foreach ($one in $Held) { $one.Dispose() }
    $Held.Clear()
}

${function:Start-Killer} = { param([string]$Log) Start-Background $KillStarting @($Log) }

# Starts a site and reserves a closed port; returns both ports.
${function:Start-Site} = {
    param([hashtable]$Answers)
    $listener = New-Object Net.Sockets.TcpListener ([Net.IPAddress]::Loopback, 0)
    $listener.Start()
    Start-Background $Serve @($listener, $Answers)
    $script:Closed = New-Object Net.Sockets.Socket 'InterNetwork', 'Stream', 'Tcp'
    $Closed.Bind((New-Object Net.IPEndPoint ([Net.IPAddress]::Loopback, 0)))
    return '{0} {1}' -f $listener.LocalEndpoint.Port, $Closed.LocalEndPoint.Port
}

while ($null -ne ($line = [Console]::In.ReadLine())) {
    if ($line.Trim() -eq '') { continue }
    $mark = '+'
    try { $text = "$(. ([scriptblock]::Create((ConvertFrom-Base64 $line))))" }
    catch {
        $mark = '-'
        $text = "$_"
    }
    $answer = $Utf8.GetBytes($mark + [Convert]::ToBase64String($Utf8.GetBytes($text)) + "`n")
    $Out.Write($answer, 0, $answer.Length)
    $Out.Flush()
}

# The hands of the agent's cases on a Windows host: lay out, look and take away without asking the agent.
# Each line is a script in base64; each is answered with + and what it gave, or - and what went wrong, in base64.
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$Utf8 = New-Object Text.UTF8Encoding
$Held = New-Object 'Collections.Generic.List[IDisposable]'
$Beside = New-Object 'Collections.Generic.List[IDisposable]'
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

# mklink is in cmd.exe of every Windows; the PowerShell that makes junctions is version 5.
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

# The quick way fails at read-only files. Links are gone by then: not every PowerShell stops at them.
${function:Remove-Tree} = {
    param([string]$Path)
    if (-not [IO.Directory]::Exists($Path)) { return }
    try { [IO.Directory]::Delete($Path, $true) } catch { Remove-Item -LiteralPath $Path -Recurse -Force }
}

${function:Get-Look} = {
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

# Beside the hands, in a runspace of its own: gives answers that were made before, `wait` seconds late.
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

# Also beside: for a service that is to die while it starts: ends the process that its log names.
$KillStarting = {
    param($Log)
    foreach ($turn in 1..600) {
        [Threading.Thread]::Sleep(50)
        if (-not [IO.File]::Exists($Log)) { continue }
        $said = New-Object IO.StreamReader (New-Object IO.FileStream $Log, 'Open', 'Read', 'ReadWrite')
        try { $found = [regex]::Match($said.ReadToEnd(), ' starting pid=(\d+)') } finally { $said.Dispose() }
        if ($found.Success) {
            [Diagnostics.Process]::GetProcessById($found.Groups[1].Value).Kill()
            return
        }
    }
}

${function:Start-Beside} = {
    param([scriptblock]$Script, [object[]]$Arguments)
    # The other way to begin loads every module there is, before the script runs.
    $state = [Management.Automation.Runspaces.InitialSessionState]::CreateDefault2()
    $shell = [PowerShell]::Create($state).AddScript($Script.ToString())
    foreach ($argument in $Arguments) { $shell = $shell.AddArgument($argument) }
    $Beside.Add($shell)
    $null = $shell.BeginInvoke()
}

# Opens a file as another program that wants it for itself.
${function:Add-Held} = {
    param([string]$Path)
    $Held.Add([IO.File]::Open($Path, 'Open', 'ReadWrite', 'None'))
}

${function:Clear-Held} = {
    foreach ($one in $Held) { $one.Dispose() }
    $Held.Clear()
}

${function:Start-Killer} = { param([string]$Log) Start-Beside $KillStarting @($Log) }

# A site, and a port that is taken and where nobody listens; gives both ports.
${function:Start-Site} = {
    param([hashtable]$Answers)
    $listener = New-Object Net.Sockets.TcpListener ([Net.IPAddress]::Loopback, 0)
    $listener.Start()
    Start-Beside $Serve @($listener, $Answers)
    $script:Closed = New-Object Net.Sockets.Socket 'InterNetwork', 'Stream', 'Tcp'
    $Closed.Bind((New-Object Net.IPEndPoint ([Net.IPAddress]::Loopback, 0)))
    return '{0} {1}' -f $listener.LocalEndpoint.Port, $Closed.LocalEndPoint.Port
}

while ($null -ne ($line = [Console]::In.ReadLine())) {
    if ($line.Trim() -eq '') { continue }
    $mark = '+'
    try { $said = "$(. ([scriptblock]::Create((ConvertFrom-Base64 $line))))" }
    catch {
        $mark = '-'
        $said = "$_"
    }
    $answer = $Utf8.GetBytes($mark + [Convert]::ToBase64String($Utf8.GetBytes($said)) + "`n")
    $Out.Write($answer, 0, $answer.Length)
    $Out.Flush()
}

# Part of the agent: facts about the system: registry, administrator, drives, quotas, clock.
$Hives = @{ HKLM = 'LocalMachine'; HKCU = 'CurrentUser'; HKCR = 'ClassesRoot'; HKU = 'Users'; HKCC = 'CurrentConfig' }
$Quotas = @(
    'IdleTimeout', 'MaxConcurrentOperations', 'MaxConcurrentOperationsPerUser', 'MaxConcurrentUsers', 'MaxConnections'
    'MaxEnvelopeSizekb', 'MaxMemoryPerShellMB', 'MaxProcessesPerShell', 'MaxShellRunTime', 'MaxShellsPerUser', 'MaxTimeoutms')

${function:Get-RegistryValue} = {
    param([string]$Key, [string]$Name)
    $hive, $rest = $Key.Split('\', 2)
    if (-not $OnWindows) { Stop-Operation 'not_found' 'this system has no registry' }
    $base = [Microsoft.Win32.RegistryKey]::OpenBaseKey($Hives[$hive], 'Registry64')
    $opened = $base.OpenSubKey("$rest")
    if ($null -eq $opened) { Stop-Operation 'not_found' "there is no registry key $Key" }
    try { return , $opened.GetValue($Name, $null, 'DoNotExpandEnvironmentNames') } finally { $opened.Dispose() }
}

${function:Invoke-Registry} = {
    param($Fields)
    $key = Get-Field $Fields 'key' -Kind 'text'
    $name = Get-Field $Fields 'name' -Kind 'text'
    if (-not $Hives.ContainsKey($key.Split('\')[0])) { Stop-Operation 'invalid' "the key must begin with HKLM\, HKCU\, HKCR\, HKU\ or HKCC\: $key" }
    $value = Get-RegistryValue $key $name
    if ($null -eq $value) { Stop-Operation 'not_found' "the registry key $key has no value named $name" }
    if ($value -is [byte[]]) { $value = [BitConverter]::ToString($value) }
    if ($value -is [string[]]) { $value = $value -join "`n" }
    return @{ value = [Convert]::ToString($value, $Invariant) }
}

${function:Get-SystemName} = {
    if (-not $OnWindows) { return [Environment]::OSVersion.VersionString }
    $name = Get-RegistryValue 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion' 'ProductName'
    return "$name $([Environment]::OSVersion.Version)".Trim()
}

${function:Test-Administrator} = {
    if (-not $OnWindows) { return [Environment]::UserName -eq 'root' }
    $principal = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
    return $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

${function:Invoke-Hello} = {
    $drives = @(foreach ($drive in [IO.DriveInfo]::GetDrives()) {
            if ($OnWindows -and $drive.DriveType -eq 'Fixed' -and $drive.IsReady) {
                @{ name = $drive.Name.TrimEnd('\'); free = $drive.AvailableFreeSpace }
            }
        })
    return @{
        agent = $ProtocolVersion; powershell = $PSVersionTable.PSVersion.ToString(); edition = Get-Edition
        language_mode = $ExecutionContext.SessionState.LanguageMode.ToString(); clr = [Environment]::Version.ToString()
        os = Get-SystemName; computer = [Environment]::MachineName; admin = Test-Administrator
        code_page = [Console]::OutputEncoding.CodePage; drives = $drives; system_drive = "$env:SystemDrive"
        program_data = [Environment]::GetFolderPath('CommonApplicationData'); winrm = Get-WinrmQuota
    }
}

# Quotas that cannot be read do not fail the operation.
${function:Get-WinrmQuota} = {
    if (-not $OnWindows) { return $null }
    try {
        $wsman = New-Object -ComObject WSMan.Automation
        $session = $wsman.GetType().InvokeMember('CreateSession', 'InvokeMethod', $null, $wsman, $null)
        $session.Timeout = 5000
        return ConvertFrom-WinrmConfig $session.Get('winrm/config')
    }
    catch { return $null }
}

${function:ConvertFrom-WinrmConfig} = {
    param([string]$Text)
    $settings = New-Object Xml.XmlReaderSettings
    $settings.DtdProcessing = 'Prohibit'
    $settings.XmlResolver = $null
    $document = New-Object Xml.XmlDocument
    $document.Load([Xml.XmlReader]::Create((New-Object IO.StringReader $Text), $settings))
    $found = @{}
    foreach ($element in $document.GetElementsByTagName('*')) {
        if ($Quotas -ccontains $element.LocalName) { $found[$element.LocalName] = $element.InnerText.Trim() }
    }
    if ($found.Count) { return $found }
    return $null
}

${function:Get-Edition} = {
    if ($PSVersionTable.ContainsKey('PSEdition')) { return $PSVersionTable.PSEdition }
    return 'Desktop'
}

${function:Get-Boot} = {
    if ($OnWindows) { return (Get-CimInstance -ClassName Win32_OperatingSystem).LastBootUpTime }
    $seconds = [Diagnostics.Stopwatch]::GetTimestamp() / [double][Diagnostics.Stopwatch]::Frequency
    return [DateTime]::UtcNow.AddSeconds(-$seconds)
}

${function:Invoke-Clock} = {
    $boot = Get-Boot
    return @{ boot = Get-TimeText $boot; now = Get-TimeText ([DateTime]::UtcNow) }
}

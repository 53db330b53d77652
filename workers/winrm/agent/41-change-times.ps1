# Part of the agent: change times. The file system sets this time when content, name or attributes of a file change. Copying
# programs set the modification time back, but not this one. .NET does not show it. The call is built in memory: a compiler
# (Add-Type) would take a second, write files, and alarm virus scanners.
$BasicInformation = 40  # bytes of FILE_BASIC_INFO; its change time is at 24
$ChangeTimes = @{ sought = $false; type = $null }

${function:New-TimesOfFile} = {
    $name = New-Object Reflection.AssemblyName 'EsyncChangeTimes'
    $module = [Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly($name, 'Run').DefineDynamicModule('EsyncChangeTimes')
    $type = $module.DefineType('EsyncChangeTimes', [Reflection.TypeAttributes]'Public')
    $parameters = [type[]]([Microsoft.Win32.SafeHandles.SafeFileHandle], [int], [byte[]], [int])
    $method = $type.DefinePInvokeMethod('GetFileInformationByHandleEx', 'kernel32.dll',
        [Reflection.MethodAttributes]'Public, Static, PinvokeImpl', [Reflection.CallingConventions]'Standard',
        [bool], $parameters, [Runtime.InteropServices.CallingConvention]'Winapi', [Runtime.InteropServices.CharSet]'Unicode')
    $method.SetImplementationFlags([Reflection.MethodImplAttributes]'PreserveSig')
    return $type.CreateType()
}

# Null where there is no such call: on other systems, or where the policy of the machine does not allow it.
${function:Get-TimesOfFile} = {
    if (-not $ChangeTimes.sought) {
        $ChangeTimes.sought = $true
        if ($OnWindows) { try { $ChangeTimes.type = New-TimesOfFile } catch { $ChangeTimes.type = $null } }
    }
    return $ChangeTimes.type
}

# Null where the file system does not keep it (FAT), or the file cannot be opened.
${function:Get-ChangeTime} = {
    param([string]$Path)
    $times = Get-TimesOfFile
    if ($null -eq $times) { return $null }
    $buffer = New-Object byte[] $BasicInformation
    try {
        $stream = [IO.File]::Open($Path, 'Open', 'Read', 'ReadWrite, Delete')
        try { $known = $times::GetFileInformationByHandleEx($stream.SafeFileHandle, 0, $buffer, $buffer.Length) }
        finally { $stream.Dispose() }
        $time = [BitConverter]::ToInt64($buffer, 24)
        if ($known -and $time -gt 0) { return Get-TimeText ([DateTime]::FromFileTimeUtc($time)) }
    }
    catch { return $null }
    return $null
}

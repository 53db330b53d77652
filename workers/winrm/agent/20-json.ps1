# Part of the agent: JSON. The reader of .NET has no limit of 2 MB and does not guess dates; the writer's output is ASCII.
$PlainText = New-Object regex '\A[ !#-\[\]-~]*\z'
$EscapedText = New-Object regex '[^ !#-\[\]-~]'

${function:ConvertFrom-JsonLine} = {
    param([string]$Line)
    # The reader accepts a truncated outer object, two objects in a row and extra commas. The agent rejects them.
    $bones = [regex]::Replace($Line, '"(?:[^"\\]|\\.)*"', 's')
    $open = ($bones -replace '[^{]', '').Length
    if ($open -ne ($bones -replace '[^}]', '').Length -or $bones -match '\}\s*\{|,\s*[}\]]' -or $bones -notmatch '\A\s*\{') {
        throw (New-Object FormatException 'the line is not a JSON object')
    }
    $quotas = [Xml.XmlDictionaryReaderQuotas]::Max
    $bytes = [Text.Encoding]::UTF8.GetBytes($Line)
    $reader = [Runtime.Serialization.Json.JsonReaderWriterFactory]::CreateJsonReader($bytes, $quotas)
    $document = New-Object Xml.XmlDocument
    $document.Load($reader)
    return (ConvertFrom-JsonNode $document.DocumentElement)
}

${function:ConvertFrom-JsonNode} = {
    param([Xml.XmlElement]$Node)
    switch ($Node.GetAttribute('type')) {
        'string' { return $Node.InnerText }
        'boolean' { return $Node.InnerText -eq 'true' }
        'null' { return $null }
        'number' {
            $whole = [long]0
            if ([long]::TryParse($Node.InnerText, 'AllowLeadingSign', $Invariant, [ref]$whole)) { return $whole }
            return [double]::Parse($Node.InnerText, $Invariant)
        }
        'array' {
            $list = New-Object Collections.Generic.List[object]
            foreach ($child in $Node.ChildNodes) { $list.Add((ConvertFrom-JsonNode $child)) }
            return , $list
        }
    }
    $map = New-Object 'Collections.Generic.Dictionary[string,object]'
    foreach ($child in $Node.ChildNodes) {
        $key = $child.LocalName
        if ($child.NamespaceURI) { $key = $child.GetAttribute('item') }
        if ($child.GetAttribute('type') -eq 'string') { $map[$key] = $child.InnerText }
        else { $map[$key] = ConvertFrom-JsonNode $child }
    }
    return , $map
}

${function:Get-Quoted} = {
    param([string]$Text)
    if ($PlainText.IsMatch($Text)) { return '"' + $Text + '"' }
    $escape = [Text.RegularExpressions.MatchEvaluator] { '\u{0:x4}' -f [int][char]$args[0].Value }
    return '"' + $EscapedText.Replace($Text, $escape) + '"'
}

${function:Add-Json} = {
    param([Text.StringBuilder]$Out, $Value)
    if ($null -eq $Value) { [void]$Out.Append('null') }
    elseif ($Value -is [string]) { [void]$Out.Append((Get-Quoted $Value)) }
    elseif ($Value -is [bool]) { [void]$Out.Append($Value.ToString().ToLowerInvariant()) }
    elseif ($Value -is [Text.StringBuilder]) { [void]$Out.Append($Value.ToString()) }  # JSON already
    elseif ($Value -is [Collections.IDictionary]) {
        $before = '{'
        foreach ($key in $Value.Keys) {
            [void]$Out.Append($before).Append((Get-Quoted $key)).Append(':')
            Add-Json $Out $Value[$key]
            $before = ','
        }
        if ($before -eq '{') { [void]$Out.Append('{') }
        [void]$Out.Append('}')
    }
    elseif ($Value -is [Collections.IEnumerable]) {
        $before = '['
        foreach ($item in $Value) {
            [void]$Out.Append($before)
            Add-Json $Out $item
            $before = ','
        }
        if ($before -eq '[') { [void]$Out.Append('[') }
        [void]$Out.Append(']')
    }
    else { [void]$Out.Append(([IFormattable]$Value).ToString($null, $Invariant)) }
}

${function:ConvertTo-JsonLine} = {
    param($Value)
    $out = New-Object Text.StringBuilder
    Add-Json $out $Value
    return $out.ToString()
}

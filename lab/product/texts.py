"""The product's configuration files of a new installation: the shapes of ektron-facts section 2 with our own texts.

Each text is a template; `$name` is a value that differs between installations. Mixed indentation, unusual attribute
order and misleading comments are intentional: real files have all of that.
"""

from dataclasses import dataclass
from string import Template
from xml.sax.saxutils import escape

__all__ = ["Values", "asset_management", "data_config", "precompiled", "service_config", "site_databases", "web_config"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Values:
    """The values that differ between installations.

    Attributes:
        node: the machine's name. site_path: the site's folder. generation: `30` or `40`. assembly: `3.0.0.0`...
        build, install_build, service_pack, cms_version: as web.config names them (ektron-facts 1.3).
        connection: the connection string, a secret. ws_path: address of the site's web service.
        fourth_endpoint: whether the additional endpoint of 9.1 exists.
    """

    node: str
    site_path: str
    generation: str
    assembly: str
    build: str
    install_build: str
    service_pack: str
    cms_version: str
    connection: str
    ws_path: str
    fourth_endpoint: bool = False


def _encode(template: str, values: Values, *, bom: bool = True, **more: str) -> bytes:
    fields = {name: _attribute(str(getattr(values, name))) for name in values.__dataclass_fields__}
    text = Template(template).substitute(fields, **more)
    return (_BOM if bom else b"") + text.replace("\n", "\r\n").encode()


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})


_ASSET = """<?xml version="1.0" encoding="utf-8"?>
<!-- LoadBalanced="1" when several servers share the assets; see the manual -->
<DocumentManagerData WebShareDir="ekt$node" FileTypes="*.doc,*.docx,*.xls,*.xlsx,*.ppt,*.pdf,*.txt,*.zip &amp; more"
    PdfGenerator="" LoadBalanced="0" ServicePort="6079" PublishCatalogName="EktCat"
    PrivateCatalogName='EktPrivateCat'  PublishCatalogLoc="C:\\Program Files\\Ektron\\Catalogs\\CMS400\\"
\tPrivateCatalogLoc="C:\\Program Files\\Ektron\\Catalogs\\CMS400\\private\\" InstalledVersion="2.01"
    StorageLocation="c:\\assetlibrary\\CMS400\\" UserDomain="$node" DomainName="" />
"""

_ASSET_40 = """<DocumentManagerData StorageLocation="c:\\assetlibrary\\CMS400\\" DomainName="" UserDomain="$node"\
 InstalledVersion="2.01" LoadBalanced="0" ServicePort="6079" WebShareDir="ekt$node" PdfGenerator=""\
 PublishCatalogName="" PrivateCatalogName="" PublishCatalogLoc="" PrivateCatalogLoc="" FileTypes="*.doc,*.pdf" />"""


def asset_management(values: Values) -> bytes:
    """`AssetManagement.config` in the site root: attributes of one empty root element (ektron-facts 2.1)."""
    if values.generation == "30":
        return _encode(_ASSET, values)
    return _encode(_ASSET_40, values, bom=False)


_SERVICE_30 = """<?xml version="1.0" encoding="utf-8"?>
<configuration>
  <configSections>
    <section name="ektron.serviceModel"
             type="Ektron.FileSync.Common.Sync.Section, Ektron.FileSync.Common, Version=$assembly, Culture=neutral" />
  </configSections>
  <appSettings>
    <add key="InstallVersion" value="$build" />
    <!-- set to 1 on every server of a cluster:
    <add key="LoadBalanced" value="1" />
    -->
    <add key="LoadBalanced" value="0"/>
    <add key="LibraryLoadBalanced"   value="0" />
\t<add key="LoadBalServerCount" value="1" />
    <add value="02:00" key="updateTime" />
    <add key="EnableMetadataEvalInDependencySync" value="true" />
    <add key="DependencySyncRecursionDepth" value="0" />
  </appSettings>
  <ektron.serviceModel>
    <publickCertKeys>$keys
    </publickCertKeys>
    <services>
      <add name="Ektron.Sync.SyncServices.SyncScheduleService" serverCertificate="EktronSyncServer.pfx" />
      <add name="Ektron.Sync.SyncServices.SiteCommunicationService"
           serverCertificate="EktronSyncServer.pfx"/>
      <add name="Ektron.Sync.Communication.SyncCommunicationScheduleService" />
    </services>
  </ektron.serviceModel>
  <system.diagnostics>
    <trace autoflush="true" />
  </system.diagnostics>
</configuration>
"""

_SERVICE_40 = """<?xml version="1.0"?>
<configuration>
\t<configSections>
\t\t<section name="ektron.serviceModel"
\t\t\ttype="Ektron.FileSync.Common.Sync.Section, Ektron.FileSync.Common, Version=$assembly, Culture=neutral"/>
\t</configSections>
\t<startup useLegacyV2RuntimeActivationPolicy="true"><supportedRuntime version="v4.0"/></startup>
\t<appSettings>
\t\t<add key="installedversion" value="$build"/>
\t\t<add key="updateTime" value="02:00"/>
\t\t<add key="LoadBalanced" value="0"/><add key="LibraryLoadBalanced" value="0"/>
\t\t<add key='LoadBalServerCount' value='1'/>
\t</appSettings>
\t<ektron.serviceModel>
\t\t$element
\t\t<services>
\t\t\t<add serverCertificate="EktronSyncServer.pfx" name="Ektron.Sync.SyncServices.SyncScheduleService"/>
\t\t\t<add serverCertificate="EktronSyncServer.pfx" name="Ektron.Sync.SyncServices.SiteCommunicationService"/>
\t\t</services>
\t</ektron.serviceModel>
</configuration>"""


def service_config(values: Values, keys: dict[str, str] | None = None) -> bytes:
    """The Windows service's `exe.config` with public keys; a new installation has none (ektron-facts 2.2).

    Args:
        values: the values of the installation.
        keys: name of the .cer file -> base64 of its DER.
    """
    lines = [f'<add key="{key}" encodedValue="{value}" />' for key, value in (keys or {}).items()]
    if values.generation == "30":
        return _encode(_SERVICE_30, values, keys="".join(f"\n      {line}" for line in lines))
    inside = "".join(f"\n\t\t\t{line}" for line in lines)
    element = f"<publickCertKeys>{inside}\n\t\t</publickCertKeys>" if keys else "<publickCertKeys/>"
    return _encode(_SERVICE_40, values, bom=False, element=element)


_ENDPOINT = '      <add contract="$contract" clientCertificate="EktronSyncClient.pfx" />\n'
_CONTRACTS = (
    "SyncCommunicationScheduleServiceReference.SyncCommunicationSchedule",
    "SyncScheduleServiceReference.IScheduleService",
    "SiteCommunicationServiceReference.ISiteCommunication",
    "Ektron.Sync.Entities.ISyncQueueService",
)

_WEB = """<?xml version="1.0" encoding="utf-8"?>
<configuration>
  <configSections>
    <section name="DocumentManagerData" type="Ektron.ASM.AssetConfig.ConfigHandler, Ektron.ASM.AssetConfig"
             restartOnExternalChanges="false" />
    <section name="ektron.serviceModel"
             type="Ektron.FileSync.Common.Sync.Section, Ektron.FileSync.Common, Version=$assembly, Culture=neutral" />
    <section name="ektronDataConfiguration" type="Ektron.Cms.DataAccess.Section, Ektron.Cms.Common" />
    <section name="eSyncSettings" type="System.Configuration.NameValueSectionHandler" />
  </configSections>
  <DocumentManagerData configSource="AssetManagement.config" />
\t<connectionStrings>
\t\t<!-- <add name="Ektron.DbConnection" connectionString="server=(local);database=old" /> -->
\t\t<add name="Ektron.DbConnection" providerName="System.Data.SqlClient"
\t\t\tconnectionString="$connection" />
\t</connectionStrings>
  <ektronDataConfiguration defaultDatabase="Ektron.DbConnection" />
  <eSyncSettings>
    <add key="eSyncEnabled" value="false" />
  </eSyncSettings>
  <ektron.serviceModel>
    <!-- the certificate that this site shows to the service -->
    <endPoints>
$endpoints    </endPoints>
  </ektron.serviceModel>
  <appSettings file="Application.config">
    <add key="ek_sitePath" value="/" />
    <add key="ek_appPath" value="WorkArea/" />
    <add key="ek_buildNumber" value="$build" />
    <add key="ek_InstallBuild" value="$install_build"/>
    <add key="ek_ServicePack" value="$service_pack" />
    <add key="ek_cmsversion" value="$cms_version" />
    <!-- forces restaging after a sync -->
    <add key="ek_ForceReInit" value="false" />
    <add key="WSPath" value="$ws_path" />
    <add key="encodedValue" value="" />
    <add key="ek_PageSize" value="50" /><add key="ek_LinkManagement" value="true" />
  </appSettings>
  <system.web>
    <!-- R&#233;glages; r\u00e9glages -->
    <compilation debug="false" />
    <authentication mode="Forms"><forms cookieless="UseCookies" timeout="480" /></authentication>
    <globalization requestEncoding='utf-8' responseEncoding='utf-8' culture="en-US"/>
  </system.web>
</configuration>
"""


def web_config(values: Values) -> bytes:
    """`web.config` in the site root with the default values (ektron-facts 2.3)."""
    contracts = _CONTRACTS if values.fourth_endpoint else _CONTRACTS[:3]
    endpoints = "".join(Template(_ENDPOINT).substitute(contract=contract) for contract in contracts)
    return _encode(_WEB, values, endpoints=endpoints)


_SITES = """<?xml version="1.0" encoding="utf-8"?>
<siteDbStrings>
  <add name="CMS400" connectionstring="$connection" type="sql" sitepath="/" active="1" version="$build"
       physicalpath="$site_path" assetlibraryloc="c:\\assetlibrary\\CMS400\\" webconfigsitepath="$site_path" />
</siteDbStrings>
"""

_DATA = """<?xml version="1.0" encoding="utf-8"?>
<connectionStrings>
  <add name="CMS400" connectionString="$connection" />
</connectionStrings>
"""


def site_databases(values: Values) -> bytes:
    """`sitedb.config`: the sites of the service. Regenerated once a day, never edited (ektron-facts 2.4)."""
    return _encode(_SITES, values, bom=False)


def data_config(values: Values) -> bytes:
    """`data.config`: the connection string again. The product writes it once a day (ektron-facts 2.4)."""
    return _encode(_DATA, values, bom=False)


def precompiled() -> bytes:
    """`PrecompiledApp.config`, ASP.NET's marker (ektron-facts 2.7)."""
    return b'<precompiledApp version="2" updatable="true"/>\r\n'

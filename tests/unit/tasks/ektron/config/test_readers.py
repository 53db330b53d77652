"""The readers return exactly the values of a file, and no secret."""

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.readers import ServiceValues, read_asset, read_service, read_web
from tasks.ektron.config.sections import Content
from tasks.ektron.facts.configuration import AssetValues, EndpointFact, WebValues

SERVICE = b"""<configuration>
  <appSettings>
    <add key="LoadBalanced" value="1"/>
    <add key="LibraryLoadBalanced" value="0"/>
    <add key="LoadBalServerCount" value="4"/>
    <add key="InstallVersion" value="8.0.1"/>
  </appSettings>
  <ektron.serviceModel>
    <publickCertKeys>
      <add key="S1_SyncClient.cer" encodedValue="TkVX"/>
      <add key="S2_SyncClient.cer" encodedValue=""/>
      <add key="s2_syncclient.CER" encodedValue=""/>
      <add key="S3_SyncClient.cer"/>
      <add key="S1_SyncServer.cer" encodedValue="TkVX"/>
      <add key="Factory.cer" encodedValue="TkVX"/>
    </publickCertKeys>
    <services>
      <service serverCertificate="S1_SyncServer.pfx"/>
      <other serverCertificate="S2_SyncServer.pfx"/>
      <service serverCertificate="S1_SyncServer.pfx"/>
      <service/>
    </services>
  </ektron.serviceModel>
</configuration>"""

WEB = b"""<configuration>
  <appSettings>
    <add key="encodedValue" value="TkVX"/>
    <add key="WSPath" value="http://x/"/>
    <add key="ek_sitePath" value="/site/"/>
    <add key="ek_buildNumber" value="1"/>
    <add key="ek_InstallBuild" value="2"/>
    <add key="ek_ServicePack" value="3"/>
    <add key="ek_cmsversion" value="4"/>
    <add key="ek_PatchUpdate" value="5"/>
    <add key="ek_DisableAssetLoadBalancePassThrough" value="true"/>
  </appSettings>
  <eSyncSettings><add key="eSyncEnabled" value="yes"/></eSyncSettings>
  <connectionStrings>
    <add name="Ektron.DbConnection" connectionString="usual"/>
    <add name="Other" connectionString=" chosen "/>
    <add name="Empty" connectionString=""/>
  </connectionStrings>
  <ektronDataConfiguration defaultDatabase="Other"/>
  <ektron.serviceModel>
    <endPoints>
      <add contract="A" clientCertificate="S1_SyncClient.pfx"/>
      <add contract="B"/>
      <add contract="C" clientCertificate="gone"/>
      <remove contract="c"/>
    </endPoints>
  </ektron.serviceModel>
</configuration>"""


def test_the_configuration_of_the_service() -> None:
    """Settings, keys by node, duplicates, and each server certificate once."""
    values = read_service(Content(SERVICE))
    assert values == ServiceValues(
        load_balanced="1",
        library_load_balanced="0",
        load_bal_server_count="4",
        install_version="8.0.1",
        keys_present=True,
        server_certificates=("S1_SyncServer.pfx", "S2_SyncServer.pfx"),
        key_thumbprints={"S1": thumbprint("TkVX"), "s2": "empty", "S3": "empty"},
        duplicated_keys=(),
    )
    contradicting = SERVICE.replace(b'.CER" encodedValue=""', b'.CER" encodedValue="TkVX"')
    assert read_service(Content(contradicting)).duplicated_keys == ("s2",)
    older = SERVICE.replace(b"InstallVersion", b"installedversion")
    assert read_service(Content(older)).install_version == "8.0.1"


def test_a_service_configuration_without_sections() -> None:
    """Everything is absent, and nothing is an error."""
    assert read_service(Content(b"<configuration/>")) == ServiceValues(key_thumbprints={}, duplicated_keys=())


def test_the_configuration_of_the_site() -> None:
    """Endpoints in effect, digests in place of the certificate and the connection string, builds by their names."""
    values = read_web(Content(WEB), lambda text: f"<{text}>")
    assert values == WebValues(
        endpoints=(EndpointFact(contract="A", client_certificate="S1_SyncClient.pfx"), EndpointFact(contract="B")),
        encoded_value=thumbprint("TkVX"),
        ws_path="http://x/",
        site_path="/site/",
        builds={
            "ek_buildNumber": "1",
            "ek_InstallBuild": "2",
            "ek_ServicePack": "3",
            "ek_cmsversion": "4",
            "ek_PatchUpdate": "5",
        },
        connection_digest="<chosen>",
        esync_enabled="yes",
        pass_through_disabled="true",
    )
    assert read_web(Content(b"<configuration/>"), str) == WebValues(service_model=False)


def test_the_connection_falls_back_to_the_usual_one() -> None:
    """When no connection is chosen, or the chosen one is absent or empty."""
    for chosen in (b"Missing", b"Empty", b""):
        data = WEB.replace(b'defaultDatabase="Other"', b'defaultDatabase="%s"' % chosen)
        assert read_web(Content(data), lambda text: f"<{text}>").connection_digest == "<usual>"
    none = WEB.replace(b'<add name="Ektron.DbConnection" connectionString="usual"/>', b"").replace(b"Other", b"X", 1)
    assert read_web(Content(none), str).connection_digest is None


def test_the_asset_configuration() -> None:
    """Attributes of the root element; absent ones are None."""
    data = b"<DocumentManagerData LoadBalanced='1' UserDomain='d' StorageLocation='c:\\x'/>"
    assert read_asset(Content(data)) == AssetValues(load_balanced="1", user_domain="d", storage_location="c:\\x")
    assert read_asset(Content(b"<DocumentManagerData/>")) == AssetValues()

// The web app of the frontend and its slot, empty: `mlops app deploy` deploys releases, with their runtime and settings.
param name string
param location string
param tags object

@description('Size of the plan; slots need Standard or Premium.')
param sku string

@description('Who gets which role on the web app: a list of principalId and principalType by role.')
param grants object = {}

@description('Subnet that the app calls through; empty for the public network.')
param subnetId string = ''

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var appTags = union(tags, { 'mlops.app': name })
var joined = !empty(subnetId)
// No runtime, start command or setting: a repeated deployment must not remove those of the deployed release.
var siteConfig = {
  alwaysOn: true
  ftpsState: 'Disabled'
  healthCheckPath: '/health'
  http20Enabled: true
  minTlsVersion: '1.2'
  scmMinTlsVersion: '1.2'
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  // checkov:skip=CKV_AZURE_225: zones need three instances of Premium, which is too much for a frontend with few users
  name: 'asp-${name}'
  location: location
  tags: tags
  kind: 'linux'
  sku: {
    name: sku
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  // checkov:skip=CKV_AZURE_222: people open it in a browser from anywhere; App Service authentication does the sign-in
  // checkov:skip=CKV_AZURE_212: one instance is enough; the plan can be scaled out by hand
  // checkov:skip=CKV_AZURE_17: browsers of people have no client certificates
  name: name
  location: location
  tags: appTags
  kind: 'app,linux'
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    serverFarmId: plan.id
    reserved: true
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: joined ? subnetId : null
    siteConfig: siteConfig
  }
}

resource slot 'Microsoft.Web/sites/slots@2024-11-01' = {
  // checkov:skip=CKV_AZURE_222: people open it in a browser from anywhere; App Service authentication does the sign-in
  // checkov:skip=CKV_AZURE_212: one instance is enough; the plan can be scaled out by hand
  // checkov:skip=CKV_AZURE_17: browsers of people have no client certificates
  parent: app
  name: 'staging'
  location: location
  tags: appTags
  kind: 'app,linux'
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    serverFarmId: plan.id
    reserved: true
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: joined ? subnetId : null
    siteConfig: siteConfig
  }
}

// Publishing with a user name and password is off; releases are sent with a token.
resource appFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource appScm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

resource slotFtp 'Microsoft.Web/sites/slots/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: slot
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource slotScm 'Microsoft.Web/sites/slots/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: slot
  name: 'scm'
  properties: {
    allow: false
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(app.id, item.principalId, item.role)
    scope: app
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output id string = app.id
output name string = app.name

@description('Identities are not swapped: the app and its slot each need the roles.')
output principalIds array = [app.identity.principalId, slot.identity.principalId]

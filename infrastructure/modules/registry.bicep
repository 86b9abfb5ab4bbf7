// The container registry: images of training, serving and the web frontend; no admin user.
param name string
param location string
param tags object

@allowed(['Basic', 'Standard', 'Premium'])
@description('Private endpoints and zone redundancy need Premium.')
param sku string

@description('Who gets which role on the registry: a list of principalId and principalType by role.')
param grants object = {}

@description('Subnet of the private endpoint; empty for a registry that can be reached from everywhere, with a sign-in.')
param endpointSubnetId string = ''

@description('Private DNS zones of the endpoint.')
param zoneIds array = []

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var isolated = !empty(endpointSubnetId)
var premium = sku == 'Premium'
var retention = {
  retentionPolicy: {
    status: 'enabled'
    days: 30
  }
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  // checkov:skip=CKV_AZURE_166: images leave quarantine only by a custom script; they are scanned before they are pushed
  // checkov:skip=CKV_AZURE_139: switched off if isolated, which this check cannot compute
  // checkov:skip=CKV_AZURE_163: a plan of Defender for the subscription, not a property of a registry
  name: name
  location: location
  tags: tags
  sku: {
    name: sku
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    dataEndpointEnabled: premium
    networkRuleBypassOptions: 'AzureServices'
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    zoneRedundancy: premium ? 'Enabled' : 'Disabled'
    policies: premium ? retention : {}
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(registry.id, item.principalId, item.role)
    scope: registry
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

module endpoint 'private_endpoint.bicep' = if (isolated) {
  name: 'pe-${name}'
  params: {
    name: 'pe-${name}'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    serviceId: registry.id
    groupId: 'registry'
    zoneIds: zoneIds
  }
}

output id string = registry.id
output name string = registry.name
output loginServer string = registry.properties.loginServer

// The Azure ML workspace. Its datastores are used with the identity of their user, never with a key of the account.
param name string
param location string
param tags object
param storageId string
param keyVaultId string
param insightsId string
param registryId string

@description('Identity of the workspace; it has its roles before the workspace is created.')
param identityId string

@description('Who gets which role on the workspace: a list of principalId and principalType by role.')
param grants object = {}

@description('Cluster that builds images of environments if the registry cannot be reached from outside; empty for none.')
param imageBuildCompute string = ''

@description('Subnet of the private endpoint; empty for a workspace that can be reached from everywhere, with a sign-in.')
param endpointSubnetId string = ''

@description('Private DNS zones of the endpoint.')
param zoneIds array = []

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var isolated = !empty(endpointSubnetId)

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' = {
  // checkov:skip=CKV_AZURE_243: it has one if isolated, in a module that this check does not see
  name: name
  location: location
  tags: tags
  kind: 'Default'
  sku: {
    name: 'Basic'
    tier: 'Basic'
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    friendlyName: name
    storageAccount: storageId
    keyVault: keyVaultId
    applicationInsights: insightsId
    containerRegistry: registryId
    primaryUserAssignedIdentity: identityId
    systemDatastoresAuthMode: 'Identity'
    imageBuildCompute: empty(imageBuildCompute) ? null : imageBuildCompute
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    provisionNetworkNow: isolated
    managedNetwork: {
      isolationMode: isolated ? 'AllowInternetOutbound' : 'Disabled'
    }
    v1LegacyMode: false
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(workspace.id, item.principalId, item.role)
    scope: workspace
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
    serviceId: workspace.id
    groupId: 'amlworkspace'
    zoneIds: zoneIds
  }
}

output id string = workspace.id
output name string = workspace.name

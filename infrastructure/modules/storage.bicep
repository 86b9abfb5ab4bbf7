// The storage account of the workspace: no account key, no public container.
param name string
param location string
param tags object

@description('SKU with its redundancy, such as Standard_LRS or Standard_ZRS.')
param sku string

@description('Who gets which role on the account: a list of principalId and principalType by role.')
param grants object = {}

@description('Subnet of the private endpoints; empty for an account that can be reached from everywhere, with a sign-in.')
param endpointSubnetId string = ''

@description('Private DNS zones by the part of the account that they serve: blob and file.')
param zoneIds object = {}

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var isolated = !empty(endpointSubnetId)

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  // checkov:skip=CKV_AZURE_35: denied if isolated, which this check cannot compute; keys are off everywhere
  // checkov:skip=CKV_AZURE_206: a parameter: zone-redundant in prod
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: isolated ? 'Deny' : 'Allow'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 14
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 14
    }
  }
}

// Corrections that people make in the web frontend.
resource corrections 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: 'corrections'
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(account.id, item.principalId, item.role)
    scope: account
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

module endpoints 'private_endpoint.bicep' = [
  for group in isolated ? ['blob', 'file'] : []: {
    name: 'pe-${name}-${group}'
    params: {
      name: 'pe-${name}-${group}'
      location: location
      tags: tags
      subnetId: endpointSubnetId
      serviceId: account.id
      groupId: group
      zoneIds: [zoneIds[group]]
    }
  }
]

output id string = account.id
output name string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob

// The key vault of the workspace, in which endpoints also keep their keys; it uses roles instead of access policies.
param name string
param location string
param tags object

@description('Who gets which role on the vault: a list of principalId and principalType by role.')
param grants object = {}

@description('Log Analytics workspace that keeps the audit log.')
param logsId string

@description('Subnet of the private endpoint; empty for a vault that can be reached from everywhere, with a sign-in.')
param endpointSubnetId string = ''

@description('Private DNS zones of the endpoint.')
param zoneIds array = []

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var isolated = !empty(endpointSubnetId)
var publicAccess = isolated ? 'Disabled' : 'Enabled'

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  // checkov:skip=CKV_AZURE_109: denied if isolated, which this check cannot compute
  // checkov:skip=CKV_AZURE_189: switched off if isolated, which this check cannot compute
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
    publicNetworkAccess: publicAccess
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: isolated ? 'Deny' : 'Allow'
    }
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: logsId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(vault.id, item.principalId, item.role)
    scope: vault
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
    serviceId: vault.id
    groupId: 'vault'
    zoneIds: zoneIds
  }
}

output id string = vault.id
output name string = vault.name

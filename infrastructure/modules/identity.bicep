// A user-assigned managed identity, and the outside identities that may act as it without a secret.
param name string
param location string
param tags object

@description('Outside identities, such as a service connection of Azure DevOps: name, issuer and subject of each.')
param federations array = []

@description('Who gets which role on the identity: a list of principalId and principalType by role.')
param grants object = {}

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

// One after another: the service refuses simultaneous writes to one identity.
@batchSize(1)
resource federation 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2024-11-30' = [
  for item in federations: {
    parent: identity
    name: item.name
    properties: {
      issuer: item.issuer
      subject: item.subject
      audiences: ['api://AzureADTokenExchange']
    }
  }
]

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(identity.id, item.principalId, item.role)
    scope: identity
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output id string = identity.id
output principalId string = identity.properties.principalId
output clientId string = identity.properties.clientId

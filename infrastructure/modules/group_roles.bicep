// Roles on the resource group, for what is created there later: container groups, additional plans.
@description('Who gets which role on the group: a list of principalId and principalType by role.')
param grants object

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(resourceGroup().id, item.principalId, item.role)
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

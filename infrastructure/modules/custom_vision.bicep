// Accounts of Custom Vision, the reference model: one trains, one predicts; used with a sign-in, not with their keys.
param name string
param location string
param tags object

@allowed(['F0', 'S0'])
@description('F0 is free and small; a subscription may have one of each kind.')
param sku string

@description('Who gets which role on both accounts: a list of principalId and principalType by role.')
param grants object = {}

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))

resource training 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_134: its portal and clients come from outside the network; keys are off
  name: '${name}-train'
  location: location
  tags: tags
  kind: 'CustomVision.Training'
  sku: {
    name: sku
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    customSubDomainName: '${name}-train'
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

resource prediction 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_134: its portal and clients come from outside the network; keys are off
  name: '${name}-predict'
  location: location
  tags: tags
  kind: 'CustomVision.Prediction'
  sku: {
    name: sku
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    customSubDomainName: '${name}-predict'
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

resource trainingAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(training.id, item.principalId, item.role)
    scope: training
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

resource predictionAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(prediction.id, item.principalId, item.role)
    scope: prediction
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output trainingEndpoint string = training.properties.endpoint
output predictionEndpoint string = prediction.properties.endpoint
output predictionId string = prediction.id

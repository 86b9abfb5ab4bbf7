// A cluster without the rest of ../main.bicep: its identities, the same module, and optionally Azure ML in it.
targetScope = 'resourceGroup'

param name string
param location string = resourceGroup().location
param vmSize string
param minNodes int
param maxNodes int

@description('Namespace of the endpoints.')
param namespace string

@description('Workspace, in the same group, that the cluster is attached to; empty for none.')
param workspaceName string = ''

@description('Identity that online endpoints of the workspace work as.')
param endpointsIdentityId string = ''

var tags = {
  project: 'vision-mlops'
}

module clusterIdentity '../modules/identity.bicep' = {
  name: 'identity-cluster'
  params: {
    name: 'id-${name}'
    location: location
    tags: tags
  }
}

module nodesIdentity '../modules/identity.bicep' = {
  name: 'identity-nodes'
  params: {
    name: 'id-${name}-nodes'
    location: location
    tags: tags
    grants: {
      'Managed Identity Operator': [
        { principalId: clusterIdentity.outputs.principalId, principalType: 'ServicePrincipal' }
      ]
    }
  }
}

module cluster '../modules/kubernetes.bicep' = {
  name: 'kubernetes'
  params: {
    name: name
    location: location
    tags: tags
    tier: 'Standard'
    vmSize: vmSize
    minNodes: minNodes
    maxNodes: maxNodes
    identityId: clusterIdentity.outputs.id
    nodesIdentity: {
      id: nodesIdentity.outputs.id
      principalId: nodesIdentity.outputs.principalId
      clientId: nodesIdentity.outputs.clientId
    }
  }
}

module extension '../modules/azureml_extension.bicep' = if (!empty(workspaceName)) {
  name: 'azureml-extension'
  params: {
    clusterName: cluster.outputs.name
    workspaceName: workspaceName
    location: location
    namespace: namespace
    identityId: endpointsIdentityId
  }
}

output id string = cluster.outputs.id
output nodesPrincipalId string = nodesIdentity.outputs.principalId

// A cluster of the workspace: scales with its jobs down to nothing, works as an identity, and has no sign-in over SSH.
param name string
param workspaceName string
param location string
param tags object
param vmSize string
param maxNodes int
param identityId string

@description('As ISO 8601; an idle node is released after that.')
param idleTime string = 'PT10M'

@description('Nodes have no public address; requires a managed network.')
param isolated bool = false

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' existing = {
  name: workspaceName
}

resource cluster 'Microsoft.MachineLearningServices/workspaces/computes@2025-12-01' = {
  parent: workspace
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    computeType: 'AmlCompute'
    computeLocation: location
    disableLocalAuth: true
    properties: {
      vmSize: vmSize
      vmPriority: 'Dedicated'
      osType: 'Linux'
      enableNodePublicIp: !isolated
      remoteLoginPortPublicAccess: 'Disabled'
      scaleSettings: {
        minNodeCount: 0
        maxNodeCount: maxNodes
        nodeIdleTimeBeforeScaleDown: idleTime
      }
    }
  }
}

output name string = cluster.name

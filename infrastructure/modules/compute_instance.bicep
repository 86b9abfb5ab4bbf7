// A development machine of one person, which is shut down when nobody uses it.
param name string
param workspaceName string
param location string
param tags object
param vmSize string

@description('Object id of the person; nobody else can use the machine.')
param userId string

@description('As ISO 8601, from 15 minutes to 3 days.')
param idleTime string = 'PT60M'

@description('It has no public address; requires a managed network.')
param isolated bool = false

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' existing = {
  name: workspaceName
}

resource instance 'Microsoft.MachineLearningServices/workspaces/computes@2025-12-01' = {
  parent: workspace
  name: name
  location: location
  tags: tags
  properties: {
    computeType: 'ComputeInstance'
    computeLocation: location
    disableLocalAuth: true
    properties: {
      vmSize: vmSize
      applicationSharingPolicy: 'Personal'
      computeInstanceAuthorizationType: 'personal'
      enableNodePublicIp: !isolated
      idleTimeBeforeShutdown: idleTime
      sshSettings: {
        sshPublicAccess: 'Disabled'
      }
      personalComputeInstanceSettings: {
        assignedUser: {
          objectId: userId
          tenantId: tenant().tenantId
        }
      }
    }
  }
}

output name string = instance.name

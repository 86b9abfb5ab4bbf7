// Everything that a workload needs in Azure, in one resource group and for one environment.
// Sign-ins and roles only: no account key, no admin user, no password. `infrastructure/up.sh` deploys it.
targetScope = 'resourceGroup'

@minLength(2)
@maxLength(8)
@description('Part of every name: lower case letters and digits.')
param name string = 'vision'

@allowed(['dev', 'prod'])
param environmentName string

param location string = resourceGroup().location

@description('Private: a managed virtual network for the workspace, private endpoints, and no public address except that of the web app.')
param isolated bool

@description('SKU of the storage account, with its redundancy.')
param storageSku string

@allowed(['Basic', 'Standard', 'Premium'])
@description('SKU of the container registry; isolated needs Premium.')
param registrySku string

@description('Maximum data that Application Insights accepts per day, in GB; -1 for no limit.')
param dailyLogGigabytes int

param cpuSku string = 'Standard_DS3_v2'
param cpuMaxNodes int = 4
param gpuSku string = 'Standard_NC4as_T4_v3'

@description('0 creates no cluster with graphics processors.')
param gpuMaxNodes int

@description('Object id of the person who gets a compute instance; empty for none.')
param instanceUserId string = ''

param kubernetes bool
param kubernetesTier string = 'Free'
param kubernetesSku string = 'Standard_D4s_v5'
param kubernetesMinNodes int = 2
param kubernetesMaxNodes int = 4

@description('Group that administers the cluster; empty for none.')
param kubernetesAdminGroupId string = ''

param webApp bool
param webAppSku string = 'P0v3'

param customVision bool
param customVisionSku string = 'F0'

@description('Region of Custom Vision, which is not available in every region.')
param customVisionLocation string = location

@description('Group of the people who work on models; empty for none.')
param dataScientistsGroupId string = ''

@description('Service connections and workflows that deploy: name, issuer and subject of each. No secret is exchanged.')
param federations array = []

@description('Per month, in the currency of the subscription.')
param budgetAmount int

@description('Addresses that get a mail before the budget is spent; without one, no budget is created.')
param budgetContacts array = []

@description('Day from which the budget counts, which cannot be changed; empty for the first of this month.')
param budgetStart string = ''

@description('Do not set it: only a default value can use the current time.')
param firstOfMonth string = utcNow('yyyy-MM-01')

var suffix = take(uniqueString(subscription().id, resourceGroup().id), 6)
var base = '${name}-${environmentName}'
var short = '${name}${environmentName}${suffix}'
var tags = {
  project: 'vision-mlops'
  environment: environmentName
}
var zones = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  file: 'privatelink.file.${environment().suffixes.storage}'
  vault: 'privatelink.vaultcore.azure.net'
  registry: 'privatelink${environment().suffixes.acrLoginServer}'
  workspace: 'privatelink.api.azureml.ms'
  notebooks: 'privatelink.notebooks.azure.net'
}
var zoneIds = {
  blob: resourceId('Microsoft.Network/privateDnsZones', zones.blob)
  file: resourceId('Microsoft.Network/privateDnsZones', zones.file)
  vault: resourceId('Microsoft.Network/privateDnsZones', zones.vault)
  registry: resourceId('Microsoft.Network/privateDnsZones', zones.registry)
  workspace: resourceId('Microsoft.Network/privateDnsZones', zones.workspace)
  notebooks: resourceId('Microsoft.Network/privateDnsZones', zones.notebooks)
}
var cpuCluster = 'cpu-cluster'

// Who gets roles. The type prevents Azure from looking up an identity that its directory does not show yet.
var people = empty(dataScientistsGroupId) ? [] : [{ principalId: dataScientistsGroupId, principalType: 'Group' }]
var workspaceItself = [{ principalId: workspaceIdentity.outputs.principalId, principalType: 'ServicePrincipal' }]
var compute = [{ principalId: computeIdentity.outputs.principalId, principalType: 'ServicePrincipal' }]
var pipelines = [{ principalId: pipelinesIdentity.outputs.principalId, principalType: 'ServicePrincipal' }]
var pulls = [{ principalId: pullIdentity.outputs.principalId, principalType: 'ServicePrincipal' }]
var nodes = kubernetes ? [{ principalId: nodesIdentity!.outputs.principalId, principalType: 'ServicePrincipal' }] : []
var cluster = kubernetes ? [{ principalId: clusterIdentity!.outputs.principalId, principalType: 'ServicePrincipal' }] : []
var frontends = webApp ? map(app!.outputs.principalIds, id => { principalId: id, principalType: 'ServicePrincipal' }) : []
// The managed network creates its own private endpoints, which the identity of the workspace approves.
var approver = isolated ? workspaceItself : []
var endpointsSubnetId = isolated ? network!.outputs.endpointsSubnetId : ''

module workspaceIdentity 'modules/identity.bicep' = {
  name: 'identity-workspace'
  params: {
    name: 'id-${base}-workspace'
    location: location
    tags: tags
  }
}

module computeIdentity 'modules/identity.bicep' = {
  name: 'identity-compute'
  params: {
    name: 'id-${base}-compute'
    location: location
    tags: tags
  }
}

// The identity that deploys: service connections and workflows are federated with it.
module pipelinesIdentity 'modules/identity.bicep' = {
  name: 'identity-pipelines'
  params: {
    name: 'id-${base}-pipelines'
    location: location
    tags: tags
    federations: federations
  }
}

// The identity that pulls images to Container Instances.
module pullIdentity 'modules/identity.bicep' = {
  name: 'identity-pull'
  params: {
    name: 'id-${base}-pull'
    location: location
    tags: tags
    grants: {
      'Managed Identity Operator': concat(pipelines, people)
    }
  }
}

module clusterIdentity 'modules/identity.bicep' = if (kubernetes) {
  name: 'identity-cluster'
  params: {
    name: 'id-${base}-cluster'
    location: location
    tags: tags
  }
}

module nodesIdentity 'modules/identity.bicep' = if (kubernetes) {
  name: 'identity-nodes'
  params: {
    name: 'id-${base}-nodes'
    location: location
    tags: tags
    grants: {
      'Managed Identity Operator': cluster
    }
  }
}

module network 'modules/network.bicep' = if (isolated) {
  name: 'network'
  params: {
    name: 'vnet-${base}'
    location: location
    tags: tags
    zones: zones
    grants: {
      'Network Contributor': cluster
    }
  }
}

module insights 'modules/insights.bicep' = {
  name: 'insights'
  params: {
    name: 'appi-${base}'
    logsName: 'log-${base}'
    location: location
    tags: tags
    dailyGigabytes: dailyLogGigabytes
    grants: {
      Contributor: workspaceItself
    }
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'st${short}'
    location: location
    tags: tags
    sku: storageSku
    endpointSubnetId: endpointsSubnetId
    zoneIds: zoneIds
    grants: {
      Contributor: workspaceItself
      'Azure AI Enterprise Network Connection Approver': approver
      'Storage Blob Data Contributor': concat(workspaceItself, compute, pipelines, people, frontends)
      'Storage File Data Privileged Contributor': concat(workspaceItself, compute, pipelines, people)
    }
  }
}

module vault 'modules/key_vault.bicep' = {
  name: 'vault'
  params: {
    name: 'kv-${base}-${suffix}'
    location: location
    tags: tags
    logsId: insights.outputs.logsId
    endpointSubnetId: endpointsSubnetId
    zoneIds: [zoneIds.vault]
    grants: {
      Contributor: workspaceItself
      'Azure AI Enterprise Network Connection Approver': approver
      'Key Vault Administrator': workspaceItself
      'Key Vault Secrets Officer': concat(pipelines, people)
      'Key Vault Secrets User': frontends
    }
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  params: {
    name: 'cr${short}'
    location: location
    tags: tags
    sku: registrySku
    endpointSubnetId: endpointsSubnetId
    zoneIds: [zoneIds.registry]
    grants: {
      Contributor: workspaceItself
      'Azure AI Enterprise Network Connection Approver': approver
      // A cluster that builds images also pushes them.
      AcrPush: concat(pipelines, people, isolated ? compute : [])
      AcrPull: concat(compute, pulls, nodes, frontends)
    }
  }
}

module workspace 'modules/workspace.bicep' = {
  name: 'workspace'
  params: {
    name: 'mlw-${base}'
    location: location
    tags: tags
    storageId: storage.outputs.id
    keyVaultId: vault.outputs.id
    insightsId: insights.outputs.id
    registryId: registry.outputs.id
    identityId: workspaceIdentity.outputs.id
    imageBuildCompute: isolated ? cpuCluster : ''
    endpointSubnetId: endpointsSubnetId
    zoneIds: [zoneIds.workspace, zoneIds.notebooks]
    grants: {
      'AzureML Data Scientist': concat(compute, pipelines, people, frontends)
    }
  }
}

module cpu 'modules/compute_cluster.bicep' = {
  name: 'cpu-cluster'
  params: {
    name: cpuCluster
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    vmSize: cpuSku
    maxNodes: cpuMaxNodes
    identityId: computeIdentity.outputs.id
    isolated: isolated
  }
}

module gpu 'modules/compute_cluster.bicep' = if (gpuMaxNodes > 0) {
  name: 'gpu-cluster'
  params: {
    name: 'gpu-cluster'
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    vmSize: gpuSku
    maxNodes: gpuMaxNodes
    identityId: computeIdentity.outputs.id
    isolated: isolated
  }
}

module instance 'modules/compute_instance.bicep' = if (!empty(instanceUserId)) {
  name: 'compute-instance'
  params: {
    name: 'ci-${take(uniqueString(workspace.outputs.id, instanceUserId), 8)}'
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    vmSize: cpuSku
    userId: instanceUserId
    isolated: isolated
  }
}

module aks 'modules/kubernetes.bicep' = if (kubernetes) {
  name: 'kubernetes'
  params: {
    name: 'aks-${base}'
    location: location
    tags: tags
    tier: kubernetesTier
    vmSize: kubernetesSku
    minNodes: kubernetesMinNodes
    maxNodes: kubernetesMaxNodes
    identityId: clusterIdentity!.outputs.id
    nodesIdentity: {
      id: nodesIdentity!.outputs.id
      principalId: nodesIdentity!.outputs.principalId
      clientId: nodesIdentity!.outputs.clientId
    }
    adminGroupId: kubernetesAdminGroupId
    logsId: insights.outputs.logsId
    subnetId: isolated ? network!.outputs.nodesSubnetId : ''
    grants: {
      'Azure Kubernetes Service Cluster User Role': concat(pipelines, people)
      'Azure Kubernetes Service RBAC Writer': pipelines
    }
  }
  // Before there are nodes, the cluster must be allowed to use the nodes' identity, and that identity must be allowed to pull.
  dependsOn: [registry]
}

module extension 'modules/azureml_extension.bicep' = if (kubernetes) {
  name: 'azureml-extension'
  params: {
    clusterName: aks!.outputs.name
    workspaceName: workspace.outputs.name
    location: location
    identityId: computeIdentity.outputs.id
  }
}

module app 'modules/app_service.bicep' = if (webApp) {
  name: 'app'
  params: {
    name: 'app-${base}-${suffix}'
    location: location
    tags: tags
    sku: webAppSku
    subnetId: isolated ? network!.outputs.appSubnetId : ''
    grants: {
      'Website Contributor': pipelines
    }
  }
}

module vision 'modules/custom_vision.bicep' = if (customVision) {
  name: 'custom-vision'
  params: {
    name: 'cv-${base}-${suffix}'
    location: customVisionLocation
    tags: tags
    sku: customVisionSku
    grants: {
      'Cognitive Services Custom Vision Contributor': concat(pipelines, people)
    }
  }
}

module deployers 'modules/group_roles.bicep' = {
  name: 'deployers'
  params: {
    grants: {
      'Azure Container Instances Contributor Role': pipelines
      'Web Plan Contributor': webApp ? pipelines : []
    }
  }
}

module budget 'modules/budget.bicep' = if (!empty(budgetContacts)) {
  name: 'budget'
  params: {
    name: 'budget-${base}'
    amount: budgetAmount
    contacts: budgetContacts
    startDate: empty(budgetStart) ? firstOfMonth : budgetStart
  }
}

@description('Lines of .env, which up.sh shows.')
output settings array = [
  'AZURE_SUBSCRIPTION_ID=${subscription().subscriptionId}'
  'AZURE_RESOURCE_GROUP=${resourceGroup().name}'
  'AZURE_LOCATION=${location}'
  'AZUREML_WORKSPACE_NAME=${workspace.outputs.name}'
  'MLOPS_AZURE_CONTAINER_REGISTRY=${registry.outputs.loginServer}'
  'MLOPS_AZURE_KEY_VAULT=${vault.outputs.name}'
  'MLOPS_AZURE_PULL_IDENTITY=${pullIdentity.outputs.id}'
  'MLOPS_AZURE_CPU_CLUSTER=${cpuCluster}'
  'MLOPS_AZURE_CPU_SKU=${cpuSku}'
  'MLOPS_AZURE_GPU_SKU=${gpuSku}'
  'MLOPS_AZURE_KUBERNETES=${kubernetes ? extension!.outputs.computeName : ''}'
]

output storageAccount string = storage.outputs.name
output pipelinesClientId string = pipelinesIdentity.outputs.clientId
output pipelinesPrincipalId string = pipelinesIdentity.outputs.principalId
output webApp string = webApp ? app!.outputs.name : ''
output kubernetesCluster string = kubernetes ? aks!.outputs.name : ''
output customVisionTrainingEndpoint string = customVision ? vision!.outputs.trainingEndpoint : ''
output customVisionPredictionEndpoint string = customVision ? vision!.outputs.predictionEndpoint : ''

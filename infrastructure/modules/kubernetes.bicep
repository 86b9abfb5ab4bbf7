// A Kubernetes cluster for scoring: sign-in only by Microsoft Entra, network policies, nodes that come and go with the load,
// and a managed Gateway, through which a rollout shares the traffic of an endpoint.
param name string
param location string
param tags object

@description('SKU of its control plane: Free, or Standard with a guaranteed availability.')
param tier string

param vmSize string
param minNodes int
param maxNodes int

@description('Identity of the control plane; it may use the identity of the nodes.')
param identityId string

@description('Identity of the nodes, which pulls images: id, principalId and clientId.')
param nodesIdentity object

@description('Group whose members administer the cluster; empty for none but those with a role.')
param adminGroupId string = ''

@description('Who gets which role on the cluster: a list of principalId and principalType by role.')
param grants object = {}

@description('Log Analytics workspace that keeps the audit log; empty for none.')
param logsId string = ''

@description('Subnet of the nodes; empty for a network of the cluster\'s own and an API server that can be reached from everywhere.')
param subnetId string = ''

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var isolated = !empty(subnetId)

resource cluster 'Microsoft.ContainerService/managedClusters@2026-03-01' = {
  // checkov:skip=CKV_AZURE_226: sizes without a large enough cache have no ephemeral disk
  // checkov:skip=CKV_AZURE_8: the dashboard is not an add-on of any supported version
  // checkov:skip=CKV_AZURE_227: needs a feature that must first be registered for the subscription
  // checkov:skip=CKV_AZURE_172: no secrets are mounted from a vault
  // checkov:skip=CKV_AZURE_4: its audit log is kept by the diagnostic setting below
  // checkov:skip=CKV_AZURE_6: private if isolated; else a sign-in with a role, because agents have no fixed addresses
  name: name
  location: location
  tags: tags
  sku: {
    name: 'Base'
    tier: tier
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    dnsPrefix: name
    disableLocalAccounts: true
    enableRBAC: true
    aadProfile: {
      managed: true
      enableAzureRBAC: true
      adminGroupObjectIDs: empty(adminGroupId) ? [] : [adminGroupId]
    }
    apiServerAccessProfile: {
      enablePrivateCluster: isolated
    }
    identityProfile: {
      kubeletidentity: {
        resourceId: nodesIdentity.id
        objectId: nodesIdentity.principalId
        clientId: nodesIdentity.clientId
      }
    }
    oidcIssuerProfile: {
      enabled: true
    }
    securityProfile: {
      workloadIdentity: {
        enabled: true
      }
      imageCleaner: {
        enabled: true
        intervalHours: 168
      }
    }
    autoUpgradeProfile: {
      upgradeChannel: 'stable'
      nodeOSUpgradeChannel: 'NodeImage'
    }
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay'
      networkDataplane: 'cilium'
      networkPolicy: 'cilium'
      loadBalancerSku: 'standard'
    }
    ingressProfile: {
      gatewayAPI: {
        installation: 'Standard'
      }
      webAppRouting: {
        enabled: true
        gatewayAPIImplementations: {
          appRoutingIstio: {
            mode: 'Enabled'
          }
        }
        nginx: {
          defaultIngressControllerType: 'None'
        }
      }
    }
    addonProfiles: {
      azurepolicy: {
        enabled: true
      }
    }
    agentPoolProfiles: [
      {
        name: 'system'
        mode: 'System'
        type: 'VirtualMachineScaleSets'
        osType: 'Linux'
        osSKU: 'AzureLinux'
        vmSize: vmSize
        count: minNodes
        minCount: minNodes
        maxCount: maxNodes
        enableAutoScaling: true
        maxPods: 60
        vnetSubnetID: isolated ? subnetId : null
        upgradeSettings: {
          maxSurge: '33%'
        }
      }
    ]
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(logsId)) {
  name: 'audit'
  scope: cluster
  properties: {
    workspaceId: logsId
    logs: [
      {
        category: 'kube-audit-admin'
        enabled: true
      }
      {
        category: 'guard'
        enabled: true
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(cluster.id, item.principalId, item.role)
    scope: cluster
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output id string = cluster.id
output name string = cluster.name
output oidcIssuer string = cluster.properties.oidcIssuerProfile.issuerURL

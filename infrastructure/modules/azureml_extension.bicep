// Azure ML in a Kubernetes cluster: its extension, and the cluster as a compute of the workspace for online endpoints.
param clusterName string
param workspaceName string
param location string

@description('Name of the compute in the workspace.')
param computeName string = 'kubernetes-cluster'

@description('Namespace of the endpoints.')
param namespace string = 'default'

@description('Identity that the endpoints work as.')
param identityId string

@description('Secret in the namespace azureml with cert.pem and key.pem; without one, the router has a private address and no TLS.')
param tlsSecret string = ''

@description('Host name of the certificate.')
param tlsHost string = ''

var common = {
  enableTraining: 'False'
  enableInference: 'True'
  inferenceRouterServiceType: 'LoadBalancer'
  inferenceRouterHA: 'True'
  internalLoadBalancerProvider: 'azure'
}
var plain = { allowInsecureConnections: 'True' }
var encrypted = { sslSecret: tlsSecret, sslCname: tlsHost }

resource cluster 'Microsoft.ContainerService/managedClusters@2026-03-01' existing = {
  name: clusterName
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' existing = {
  name: workspaceName
}

resource extension 'Microsoft.KubernetesConfiguration/extensions@2024-11-01' = {
  name: 'azureml'
  scope: cluster
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    extensionType: 'microsoft.azureml.kubernetes'
    autoUpgradeMinorVersion: true
    releaseTrain: 'stable'
    scope: {
      cluster: {
        releaseNamespace: 'azureml'
      }
    }
    configurationSettings: union(common, empty(tlsSecret) ? plain : encrypted)
  }
}

resource compute 'Microsoft.MachineLearningServices/workspaces/computes@2025-12-01' = {
  parent: workspace
  name: computeName
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    computeType: 'Kubernetes'
    resourceId: cluster.id
    properties: {
      namespace: namespace
      defaultInstanceType: 'small'
      instanceTypes: {
        small: {
          nodeSelector: {}
          resources: {
            requests: {
              cpu: '1'
              memory: '2Gi'
            }
            limits: {
              cpu: '1'
              memory: '2Gi'
            }
          }
        }
      }
    }
  }
  dependsOn: [extension]
}

output computeName string = compute.name

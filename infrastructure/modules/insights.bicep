// Application Insights, and the Log Analytics workspace that stores its data and the audit logs.
param name string
param logsName string
param location string
param tags object

@description('Who gets which role on Application Insights: a list of principalId and principalType by role.')
param grants object = {}

@description('Days to keep entries; the first 30 cost nothing extra.')
param retentionDays int = 30

@description('Maximum data per day, in GB; more is dropped until the next day. -1 for no limit.')
param dailyGigabytes int = 1

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))

resource logs 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: logsName
  location: location
  tags: tags
  properties: {
    retentionInDays: retentionDays
    sku: {
      name: 'PerGB2018'
    }
    workspaceCapping: {
      dailyQuotaGb: dailyGigabytes
    }
    features: {
      disableLocalAuth: true
    }
  }
}

// The connection string stays usable: Azure ML sends the logs of its endpoints with it. It can write, but not read.
resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: logs.id
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(insights.id, item.principalId, item.role)
    scope: insights
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output id string = insights.id
output logsId string = logs.id

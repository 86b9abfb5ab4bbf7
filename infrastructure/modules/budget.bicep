// Sends mail before the budget of a month is spent. It warns, but stops nothing.
param name string

@description('In the currency of the subscription.')
param amount int

@description('Addresses that get the mail.')
param contacts array

@description('First day of a month; it cannot be changed for an existing budget.')
param startDate string

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = {
  name: name
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: {
      startDate: startDate
    }
    notifications: {
      spent80: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 80
        thresholdType: 'Actual'
        contactEmails: contacts
      }
      forecast100: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: contacts
      }
    }
  }
}

output name string = budget.name
